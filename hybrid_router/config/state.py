"""Where the router keeps what outlives it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hybrid_router.config.schema import Loaded, Store

CONTROL_SOCKET = "control.sock"


def store_path(loaded: Loaded, environ: Mapping[str, str]) -> Path:
    """The file of `store.path`, absolute: below $STATE_DIRECTORY if that is set, else beside router.yaml."""
    return _placed(loaded.config.store.path, Path(loaded.path), environ)


def state_folder(loaded: Loaded, environ: Mapping[str, str]) -> Path:
    """The folder of `store.path`, absolute."""
    return store_path(loaded, environ).parent


def usual_state_folder(path: Path, environ: Mapping[str, str]) -> Path:
    """The state folder of a router.yaml that cannot be read, unless it named another."""
    return _placed(Store().path, path.absolute(), environ).parent


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    """A folder's descriptor.

    Raises:
        OSError: it is not there, or no folder.
    """
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def below(folder: int, name: str) -> str:
    """A file's path by its folder's descriptor: short enough for a socket, however deep the folder lies."""
    return f"/proc/self/fd/{folder}/{name}"


def _placed(written: str, config_path: Path, environ: Mapping[str, str]) -> Path:
    """systemd gives its folders separated by colons; the first is ours."""
    given = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return (Path(given) if given.startswith("/") else config_path.parent) / written
