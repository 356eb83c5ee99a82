"""Bytes that came with a call: a file in memory, without a name and never on a disk.

It travels to a child as an open descriptor, so a recording of an hour is held once, not once in each
process, and is gone when the last of them lets go of it, whatever happens to the others.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os

from msgspec import Struct

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class Upload(Struct, frozen=True, kw_only=True, array_like=True):
    """One file.  `fd` is this process's own; `name` is the client's, to be shown and never opened.

    `media_type` is what the client says it is.
    """

    fd: int
    size_bytes: int
    name: str = ""
    media_type: str = ""

    def mapped(self) -> mmap.mmap:
        """The bytes, as pages that all processes share.  Outlives the descriptor."""
        return mmap.mmap(self.fd, self.size_bytes, prot=mmap.PROT_READ)

    def close(self) -> None:
        """Let go of it; twice is fine only if nothing was opened in between."""
        with contextlib.suppress(OSError):
            os.close(self.fd)


class Draft:
    """A file that is being received."""

    def __init__(self, name: str = "", media_type: str = "") -> None:
        """Raises OSError: the system is out of descriptors."""
        self._name = name
        self._media_type = media_type
        self._fd: int | None = os.memfd_create("upload", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self.size_bytes = 0

    def write(self, piece: bytes) -> None:
        """Add bytes.

        Raises:
            OSError: memory is short.
        """
        if self._fd is None:
            raise ValueError("the draft is closed")
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        self.size_bytes += len(piece)

    def done(self) -> Upload:
        """The file, from now on unchangeable: no child can change what another gets after it."""
        if self._fd is None:
            raise ValueError("the draft is closed")
        fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, _SEALS)
        fd, self._fd = self._fd, None
        return Upload(fd=fd, size_bytes=self.size_bytes, name=self._name, media_type=self._media_type)

    def close(self) -> None:
        """Drop it, unless it is done."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def upload_of(content: bytes, name: str = "", media_type: str = "") -> Upload:
    """Bytes that are here already, as a file.

    Raises:
        OSError: the system is out of descriptors or memory.
    """
    draft = Draft(name, media_type)
    try:
        draft.write(content)
        return draft.done()
    finally:
        draft.close()
