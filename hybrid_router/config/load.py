"""router.yaml → `Loaded`, or one error that names everything there is to mend."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hybrid_router.config.check import check
from hybrid_router.config.hints import Hint
from hybrid_router.config.nodes import Malformed, compose
from hybrid_router.config.problems import ConfigErrors, Problem, Problems
from hybrid_router.config.schema import Config, Loaded
from hybrid_router.config.secrets import Surroundings, gather
from hybrid_router.config.source import Unreadable, read_config
from hybrid_router.config.walk import walk

__all__ = ["ConfigErrors", "load", "loads"]


def load(path: str | Path, environ: Mapping[str, str], credentials_dir: str | Path | None = None) -> Loaded:
    """Read and check a configuration file.

    Args:
        path: the file.  Relative paths in it start from its folder.
        environ: the process's environment; only the variables that the file names are looked at.
        credentials_dir: systemd's; $CREDENTIALS_DIRECTORY of `environ` unless given.

    Raises:
        ConfigErrors: it cannot be used; all problems, each with line, column and key path.
    """
    try:
        text = read_config(Path(path), os.geteuid())
    except Unreadable as error:
        raise ConfigErrors(str(path), [Problem(1, 1, "", str(error))]) from None
    return loads(text, str(path), environ, credentials_dir)


def loads(
    text: str,
    name: str = "router.yaml",
    environ: Mapping[str, str] | None = None,
    credentials_dir: str | Path | None = None,
) -> Loaded:
    """As `load`, from text; `name` stands in errors and says where relative paths start.

    Raises:
        ConfigErrors: see `load`.
    """
    path = Path(name).absolute()
    environ = environ or {}
    folder = credentials_dir or environ.get("CREDENTIALS_DIRECTORY") or None
    around = Surroundings(
        folder=path.parent,
        environ=environ,
        credentials_dir=Path(folder) if folder else None,
        user_id=os.geteuid(),
    )
    try:
        node = compose(text)
    except Malformed as error:
        raise ConfigErrors(name, [error.problem]) from None
    problems = Problems()
    config = walk(node, Hint(Config), (), problems)
    if not isinstance(config, Config):
        raise ConfigErrors(name, problems.found)
    check(config, problems)
    secrets, off = gather(config, around, problems)
    if problems.found:
        raise ConfigErrors(name, problems.found)
    return Loaded(config=config, path=str(path), secrets=secrets, off=off, places=problems.places)
