"""Verification: only the named file passes, and a verified one is not read twice."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec
import pytest

from hybrid_router.models import stamps, weights
from hybrid_router.models.entry import FileEntry, Source
from hybrid_router.models.errors import FileChanged, FileMissing, ModelFileError
from hybrid_router.models.weights import State

CONTENT = b"weights" * 400_000
NAME = "tiny"


@pytest.fixture
def entry(tmp_path: Path) -> FileEntry:
    """A manifest entry whose file lies where it should."""
    (tmp_path / "tiny.gguf").write_bytes(CONTENT)
    return FileEntry(file="tiny.gguf", sha256=hashlib.sha256(CONTENT).hexdigest(), size_bytes=len(CONTENT))


def write_manifest(folder: Path, entry: FileEntry) -> Path:
    """A manifest file with this one entry."""
    path = folder / "manifest.yaml"
    path.write_text(
        f"models:\n  {NAME}:\n    file: {entry.file}\n    sha256: {entry.sha256}\n"
        f"    size_bytes: {entry.size_bytes}\n"
    )
    return path


def reads_of(entry: FileEntry, folder: Path) -> int:
    """How many bytes a verification reads."""
    seen = [0]
    weights.verify(NAME, entry, folder, progress=seen.append)
    return seen[-1]


def test_the_right_file_is_found_by_name(tmp_path: Path, entry: FileEntry) -> None:
    """`weights` gives the absolute path of a file whose digest is right."""
    path = weights.weights(write_manifest(tmp_path, entry), NAME)

    assert path == tmp_path / "tiny.gguf"
    assert path.is_absolute()


def test_a_second_start_does_not_read_the_file(tmp_path: Path, entry: FileEntry) -> None:
    """The first verification reads every byte, the second none."""
    assert reads_of(entry, tmp_path) == len(CONTENT)
    assert reads_of(entry, tmp_path) == 0


def test_verifying_afresh_reads_in_any_case(tmp_path: Path, entry: FileEntry) -> None:
    """A stamp does not stop whoever asks for the real thing."""
    seen: list[int] = []
    weights.verify(NAME, entry, tmp_path)
    weights.verify(NAME, entry, tmp_path, progress=seen.append, afresh=True)

    assert seen[-1] == len(CONTENT)


def test_a_changed_byte_is_noticed_after_a_stamp(tmp_path: Path, entry: FileEntry) -> None:
    """Same size, same times set back by hand: the change still shows."""
    path = tmp_path / "tiny.gguf"
    weights.verify(NAME, entry, tmp_path)
    before = path.stat()
    path.write_bytes(b"W" + CONTENT[1:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    with pytest.raises(FileChanged, match="is not the one"):
        weights.verify(NAME, entry, tmp_path)


def test_another_size_is_refused_without_reading(tmp_path: Path, entry: FileEntry) -> None:
    """A half-copied file is told by its size."""
    (tmp_path / "tiny.gguf").write_bytes(CONTENT[:-1])
    seen: list[int] = []

    with pytest.raises(FileChanged) as caught:
        weights.verify(NAME, entry, tmp_path, progress=seen.append)

    assert seen == []
    assert str(len(CONTENT)) in caught.value.detail


def test_a_missing_file_says_what_to_do(tmp_path: Path, entry: FileEntry) -> None:
    """The message says where a file of one's own belongs; the path stays in the detail."""
    (tmp_path / "tiny.gguf").unlink()

    with pytest.raises(FileMissing, match=r"put it where models/manifest\.yaml says") as caught:
        weights.verify(NAME, entry, tmp_path)

    assert str(tmp_path) not in caught.value.message
    assert str(tmp_path) in caught.value.detail


def test_a_file_that_a_package_brings_is_one_command_away(tmp_path: Path, entry: FileEntry) -> None:
    """Missing or wrong: the message names the command that puts it there."""
    packaged = msgspec.structs.replace(entry, source=Source(package="tiny==1.0", path="tiny/tiny.gguf"))
    (tmp_path / "tiny.gguf").write_bytes(b"short")
    with pytest.raises(FileChanged, match="run `make models`"):
        weights.verify(NAME, packaged, tmp_path)

    (tmp_path / "tiny.gguf").unlink()
    with pytest.raises(FileMissing, match="run `make models`"):
        weights.verify(NAME, packaged, tmp_path)


def test_a_folder_is_no_weights_file(tmp_path: Path, entry: FileEntry) -> None:
    """What stands at the place must be a regular file."""
    (tmp_path / "tiny.gguf").unlink()
    (tmp_path / "tiny.gguf").mkdir()

    with pytest.raises(FileMissing):
        weights.verify(NAME, entry, tmp_path)


def test_a_stamp_of_another_digest_does_not_count(tmp_path: Path, entry: FileEntry) -> None:
    """When the manifest names another digest, the file is read again and refused."""
    weights.verify(NAME, entry, tmp_path)
    other = FileEntry(file=entry.file, sha256="0" * 64, size_bytes=entry.size_bytes)

    with pytest.raises(FileChanged):
        weights.verify(NAME, other, tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"tiny.gguf": 3}', b"\xff"])
def test_broken_stamps_cost_a_reading_not_a_start(tmp_path: Path, entry: FileEntry, content: bytes) -> None:
    """Whatever stands in the stamps file, verification goes on and repairs it."""
    (tmp_path / stamps.STAMPS_FILE).write_bytes(content)

    assert reads_of(entry, tmp_path) == len(CONTENT)
    assert reads_of(entry, tmp_path) == 0


def test_stamps_that_cannot_be_written_do_not_stop_a_start(tmp_path: Path, entry: FileEntry) -> None:
    """With no way to store stamps every verification reads, and passes."""
    (tmp_path / stamps.STAMPS_FILE).mkdir()

    assert reads_of(entry, tmp_path) == len(CONTENT)
    assert reads_of(entry, tmp_path) == len(CONTENT)
    assert sorted(path.name for path in tmp_path.iterdir()) == [stamps.STAMPS_FILE, "tiny.gguf"]


def test_a_file_touched_while_it_is_read_earns_no_stamp(tmp_path: Path, entry: FileEntry) -> None:
    """The digest may be of bytes that are no longer there, so the next start reads again."""
    weights.verify(NAME, entry, tmp_path, progress=lambda _: os.utime(tmp_path / "tiny.gguf", ns=(1, 1)))

    assert stamps.read(tmp_path) == {}


def test_the_state_is_told_without_reading(tmp_path: Path, entry: FileEntry) -> None:
    """Unverified, present, wrong size, missing: from the file's numbers and the stamp alone."""
    seen = [weights.state(entry, tmp_path)]
    weights.verify(NAME, entry, tmp_path)
    seen.append(weights.state(entry, tmp_path))
    (tmp_path / "tiny.gguf").write_bytes(b"short")
    seen.append(weights.state(entry, tmp_path))
    (tmp_path / "tiny.gguf").unlink()
    seen.append(weights.state(entry, tmp_path))

    assert seen == [State.UNVERIFIED, State.PRESENT, State.WRONG, State.MISSING]


def test_an_unknown_model_is_refused_with_the_known_ones(tmp_path: Path, entry: FileEntry) -> None:
    """A name that is not in the manifest is answered with those that are."""
    with pytest.raises(ModelFileError, match=r"no model 'other'.*known: tiny"):
        weights.weights(write_manifest(tmp_path, entry), "other")
