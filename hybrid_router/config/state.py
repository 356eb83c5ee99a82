"""Where the router keeps what outlives it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hybrid_router.config.schema import Loaded, Store


def store_path(loaded: Loaded, environ: Mapping[str, str]) -> Path:
    """The file of `store.path`, absolute: below $STATE_DIRECTORY if that is set, else beside router.yaml."""
    return _below(loaded.config.store.path, Path(loaded.path), environ)


def state_folder(loaded: Loaded, environ: Mapping[str, str]) -> Path:
    """The folder of `store.path`, absolute."""
    return store_path(loaded, environ).parent


def usual_state_folder(path: Path, environ: Mapping[str, str]) -> Path:
    """The state folder of a router.yaml that cannot be read, unless it named another."""
    return _below(Store().path, path.absolute(), environ).parent


def _below(written: str, config_path: Path, environ: Mapping[str, str]) -> Path:
    """systemd gives its folders separated by colons; the first is ours."""
    given = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return (Path(given) if given.startswith("/") else config_path.parent) / written
