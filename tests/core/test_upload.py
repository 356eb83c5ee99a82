"""Files of calls: in memory, sealed, one copy for all processes."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from hybrid_router.core.upload import Draft, Upload, upload_of


def descriptors() -> set[str]:
    """This process's open ones, by what they lead to."""
    return {str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}


def test_what_was_written_is_what_is_mapped() -> None:
    """Pieces come out in the order in which they were received, whole."""
    draft = Draft("speech.mp3", "audio/mpeg")
    for piece in (b"one ", b"", b"two"):
        draft.write(piece)
    upload = draft.done()
    try:
        assert bytes(upload.mapped()) == b"one two"
        assert (upload.size_bytes, upload.name, upload.media_type) == (7, "speech.mp3", "audio/mpeg")
    finally:
        upload.close()


def test_nobody_can_change_a_file_that_is_done() -> None:
    """Not by its descriptor, not by a mapping: a child cannot change what the next child gets."""
    upload = upload_of(b"as it came")
    try:
        with pytest.raises(OSError, match="not permitted"):
            os.write(upload.fd, b"another")
        with pytest.raises(OSError, match="not permitted"):
            os.ftruncate(upload.fd, 0)
        with pytest.raises(OSError, match="not permitted"):
            mmap.mmap(upload.fd, upload.size_bytes, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    finally:
        upload.close()


def test_a_mapping_outlives_its_descriptor() -> None:
    """So an engine maps what it needs, and the descriptor can be closed at once."""
    upload = upload_of(b"x" * 10_000)
    pages = upload.mapped()
    upload.close()

    assert pages[9_999:] == b"x"


def test_a_file_has_no_name_on_any_disk() -> None:
    """What a client sends is in memory alone, whatever it called it."""
    upload = upload_of(b"private", name="../../etc/passwd")
    try:
        where = str(Path(f"/proc/self/fd/{upload.fd}").readlink())
        assert where == "/memfd:upload (deleted)"
    finally:
        upload.close()


def test_a_draft_that_is_dropped_leaves_no_descriptor() -> None:
    """A form that is cut off in the middle costs nothing afterwards."""
    before = descriptors()
    draft = Draft()
    draft.write(b"half")
    draft.close()

    assert descriptors() == before
    with pytest.raises(ValueError, match="closed"):
        draft.write(b"more")
    with pytest.raises(ValueError, match="closed"):
        draft.done()


def test_closing_what_is_gone_is_fine() -> None:
    """Clean-up may come from two sides."""
    Upload(fd=1_000_000, size_bytes=1).close()
