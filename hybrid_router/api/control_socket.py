"""The control socket: a file in the state folder that root and our own user may connect to.

A lock says whose folder it is.  The kernel drops it with its holder, so whatever lies beside a free lock
is a dead router's and may go; nobody's living socket is ever taken away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from aiohttp import web

from hybrid_router.config.state import CONTROL_SOCKET, below, opened

_LOCK = "control.lock"
_FOLDER_MODE, _FILE_MODE = 0o700, 0o600
_BACKLOG = 128  # a full one refuses, and who connects without blocking is not told so
_GOODBYE_S = 1.0


class FolderTaken(Exception):
    """Another router that runs has its control socket in this folder."""


@asynccontextmanager
async def control_socket(application: web.Application, folder: Path) -> AsyncIterator[Path]:
    """Answer on `control.sock` in `folder`, which is made if need be; gives its path.

    Raises:
        FolderTaken: another router does.
        OSError: the folder cannot be made or written.
    """
    with _held(folder) as held:
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=_GOODBYE_S)
        await runner.setup()
        try:
            await web.SockSite(runner, _bound(held), backlog=_BACKLOG).start()
            yield folder / CONTROL_SOCKET
        finally:
            with contextlib.suppress(OSError):
                os.unlink(CONTROL_SOCKET, dir_fd=held)
            await runner.cleanup()


@contextmanager
def _held(folder: Path) -> Iterator[int]:
    """The folder's descriptor while we hold its lock."""
    folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    with opened(folder) as descriptor:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = os.open(_LOCK, flags, _FILE_MODE, dir_fd=descriptor)
        try:
            _take(lock, folder)
            yield descriptor
        finally:
            os.close(lock)


def _take(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FolderTaken(f"another router runs with {folder}") from None


def _bound(folder: int) -> socket.socket:
    """A socket that only our user may connect to, from its first moment on."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(CONTROL_SOCKET, dir_fd=folder)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(made.fileno(), _FILE_MODE)  # Linux gives the file the mode of its socket
        made.bind(below(folder, CONTROL_SOCKET))
    except OSError:
        made.close()
        raise
    return made
