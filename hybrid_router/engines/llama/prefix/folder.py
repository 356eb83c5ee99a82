"""The folder of states: one shelf for each model and its settings, and the secret that seals them.

Every name is opened below a folder that is open already and never through a link, so nothing outside can be
reached, whatever lies inside.  Names that are not ours are left alone.  Several processes may use one folder.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from hybrid_router.engines.llama.prefix.state_file import SECRET_BYTES

_FOLDER_MODE, _FILE_MODE = 0o700, 0o600
_SEALED_WITH = "secret"
_SHELF = re.compile(r"[0-9a-f]{32}")
_STATE = re.compile(r"([0-9a-f]{32})\.state")
_PART = re.compile(r"[0-9a-f]{32}\.part")
_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe in a file's place blocks nobody
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_WRITE_BYTES = 16 * 2**20


class Held(NamedTuple):
    """One state file."""

    shelf: str
    name: str
    size_bytes: int
    used_ns: int


class Folder:
    """One shelf of the folder, open; `held` and `delete` see the others too.

    Attributes:
        shelf: its name.
        secret: the folder's.
    """

    def __init__(self, path: Path, shelf: str) -> None:
        """Open the folder and what is needed in it, made where it is missing.

        Raises:
            OSError: it cannot be, or others could write in it.
        """
        self.shelf = shelf
        with suppress(FileExistsError):
            path.mkdir(_FOLDER_MODE)
        with ExitStack() as opened:
            self._top_fd = os.open(path, _OPEN_FOLDER)
            opened.callback(os.close, self._top_fd)
            _refuse_shared(self._top_fd)
            self.secret = _secret(self._top_fd)
            with suppress(FileExistsError):
                os.mkdir(shelf, _FOLDER_MODE, dir_fd=self._top_fd)
            self._fd = os.open(shelf, _OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=self._top_fd)
            opened.callback(os.close, self._fd)
            _own(self._fd, _FOLDER_MODE)
            self._remove_parts()
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Close the folders."""
        self._opened.close()

    @property
    def changed_ns(self) -> int:
        """When a file last came to this shelf or left it."""
        return os.fstat(self._fd).st_mtime_ns

    def own(self) -> list[Held]:
        """The states on this shelf."""
        return list(_states(self._fd, self.shelf))

    def held(self) -> list[Held]:
        """The states on all shelves."""
        found: list[Held] = []
        for shelf, fd in self._shelves():
            found.extend(_states(fd, shelf))
        return found

    @contextmanager
    def reading(self, name: str) -> Iterator[tuple[BinaryIO, int]]:
        """A state of this shelf, open, and its size in bytes.

        Raises:
            PermissionError: it is not ours.
            OSError: it is gone, or cannot be read.
        """
        fd = os.open(f"{name}.state", os.O_RDONLY | _OPEN, dir_fd=self._fd)
        with os.fdopen(fd, "rb") as file:
            _own(fd, _FILE_MODE)
            yield file, os.fstat(fd).st_size

    def touch(self, name: str, used_s: float) -> None:
        """A state of this shelf was of use.

        Raises:
            OSError: it is gone.
        """
        os.utime(f"{name}.state", (used_s, used_s), dir_fd=self._fd, follow_symlinks=False)

    def write(self, name: str, pieces: Sequence[bytes], used_s: float) -> None:
        """Put a state on this shelf, wholly or not at all, whatever dies in between.

        Raises:
            OSError: it cannot be written; nothing is left of it.
        """
        part, fd = self._part()
        try:
            for piece in pieces:
                _write_all(fd, piece)
            os.utime(fd, (used_s, used_s))
            os.fsync(fd)
            os.rename(part, f"{name}.state", src_dir_fd=self._fd, dst_dir_fd=self._fd)
            os.fsync(self._fd)
        except OSError:
            with suppress(OSError):
                os.unlink(part, dir_fd=self._fd)
            raise
        finally:
            os.close(fd)

    def delete(self, shelf: str, name: str) -> None:
        """Remove a state, if it can be."""
        with suppress(OSError):
            if shelf == self.shelf:
                os.unlink(f"{name}.state", dir_fd=self._fd)
                return
            with _opened_shelf(shelf, self._top_fd) as fd:
                os.unlink(f"{name}.state", dir_fd=fd)

    def _part(self) -> tuple[str, int]:
        """A new file to write to, locked for as long as it is open."""
        while True:
            part = f"{secrets.token_hex(16)}.part"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN
            fd = os.open(part, flags, _FILE_MODE, dir_fd=self._fd)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
            except OSError:
                os.close(fd)
                raise
            if os.fstat(fd).st_nlink:
                return part, fd
            os.close(fd)  # somebody who cleans up was between the two lines

    def _remove_parts(self) -> None:
        """Remove what a process that died was writing.  What nobody has locked, nobody writes."""
        for _, shelf_fd in self._shelves():
            for name in _names(shelf_fd):
                if _PART.fullmatch(name):
                    with suppress(OSError):
                        _remove_unlocked(name, shelf_fd)

    def _shelves(self) -> Iterator[tuple[str, int]]:
        """Every shelf and its open folder."""
        for name in _names(self._top_fd):
            if _SHELF.fullmatch(name):
                with suppress(OSError), _opened_shelf(name, self._top_fd) as fd:
                    yield name, fd


@contextmanager
def _opened_shelf(name: str, top_fd: int) -> Iterator[int]:
    fd = os.open(name, _OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=top_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def _names(fd: int) -> list[str]:
    """What lies in an open folder."""
    with os.scandir(fd) as entries:
        return [entry.name for entry in entries]


def _states(fd: int, shelf: str) -> Iterator[Held]:
    """The states in an open shelf; links and folders are none."""
    for file in _names(fd):
        if named := _STATE.fullmatch(file):
            with suppress(FileNotFoundError):
                found = os.stat(file, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode):
                    yield Held(shelf, named[1], found.st_size, found.st_mtime_ns)


def _refuse_shared(fd: int) -> None:
    """Refuse a folder that others could change: the operator named it, so its mode is left as it is."""
    found = os.fstat(fd)
    if found.st_uid != os.geteuid():
        raise PermissionError("it belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError("other users may write in it; `chmod go-w` it")


def _own(fd: int, mode: int) -> None:
    """See that what is open is a file or folder of ours that nobody else may use."""
    found = os.fstat(fd)
    if found.st_uid != os.geteuid() or not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise PermissionError("not a file of this user")
    if stat.S_IMODE(found.st_mode) != mode:
        os.fchmod(fd, mode)


def _secret(top_fd: int) -> bytes:
    """The folder's secret; made once, by whoever comes first."""
    fd = os.open(_SEALED_WITH, os.O_RDWR | os.O_CREAT | _OPEN, _FILE_MODE, dir_fd=top_fd)
    try:
        _own(fd, _FILE_MODE)
        fcntl.flock(fd, fcntl.LOCK_EX)
        secret = os.read(fd, SECRET_BYTES + 1)
        if len(secret) != SECRET_BYTES:  # new, or its writer died: nothing was ever sealed with it
            secret = os.urandom(SECRET_BYTES)
            os.ftruncate(fd, 0)
            os.pwrite(fd, secret, 0)
            os.fsync(fd)
            os.fsync(top_fd)
        return secret
    finally:
        os.close(fd)


def _remove_unlocked(name: str, shelf_fd: int) -> None:
    fd = os.open(name, os.O_RDONLY | _OPEN, dir_fd=shelf_fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=shelf_fd)
    finally:
        os.close(fd)


def _write_all(fd: int, piece: bytes) -> None:
    """Write all of it; a short write means that the next one says why."""
    left = memoryview(piece)
    while left:
        left = left[os.write(fd, left[:_WRITE_BYTES]) :]
