"""Which manifest a command is about: one that is named, or the one that router.yaml names."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click
import yaml
from msgspec import Struct
from msgspec.structs import fields

from hybrid_router.config.load import ConfigErrors
from hybrid_router.config.nodes import Malformed, compose
from hybrid_router.config.problems import Problem
from hybrid_router.config.schema import Config
from hybrid_router.config.source import Unreadable, read_config

_CONFIG = Path("router.yaml")
_KEY = "manifest"


class Where(Struct, frozen=True, kw_only=True):
    """The manifest, and the configuration that may use what is in it.  `config` may not be there."""

    manifest: Path
    config: Path


def options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--config` and `--manifest`."""
    for option in (
        click.option(
            "--manifest",
            type=click.Path(dir_okay=False, path_type=Path),
            help="The list of model files; the files lie beside it.  "
            "[default: the one that the configuration names, or else models/manifest.yaml]",
        ),
        click.option(
            "--config",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="The configuration that names the list of model files.  "
            "[default: router.yaml, if it is here]",
        ),
    ):
        function = option(function)
    return function


def told_where(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command both options, and its function `where` as the first argument.

    What stands behind the command's name wins over what stands before it.
    """

    @wraps(function)
    def command(*args: Any, config: Path | None, manifest: Path | None, **said: Any) -> Any:
        before: tuple[Path | None, Path | None] = click.get_current_context().obj or (None, None)
        if config is None and manifest is None:
            config, manifest = before
        return function(found(config or before[0], manifest), *args, **said)

    return options(command)


def found(config: Path | None, manifest: Path | None) -> Where:
    """The manifest; exit 2 if the configuration that names it cannot be read.

    Only that one key is looked at: a mistake elsewhere keeps nobody from his files.
    """
    named_by = config or _CONFIG
    if manifest is None:
        listed = _named(named_by) if config is not None else _named_here()
        manifest = named_by.parent / listed
    return Where(manifest=manifest, config=named_by)


def _named_here() -> str:
    """As the router.yaml that is here says; one that is not to be trusted is passed over, and that told."""
    if not _CONFIG.exists():
        return _usual()
    try:
        read_config(_CONFIG, os.geteuid())
    except Unreadable as e:
        click.echo(f"{_CONFIG} is not asked: {e}; {_usual()} is meant", err=True)
        return _usual()
    return _named(_CONFIG)


def _usual() -> str:
    return str(next(each.default for each in fields(Config) if each.name == _KEY))


def _named(config: Path) -> str:
    try:
        node = compose(read_config(config, os.geteuid()))
    except Unreadable as e:
        raise _unreadable(config, Problem(1, 1, "", str(e))) from e
    except Malformed as e:
        raise _unreadable(config, e.problem) from e
    written = node.value if isinstance(node, yaml.MappingNode) else []
    values = [value.value for key, value in written if key.value == _KEY]
    return values[-1] if values and isinstance(values[-1], str) and values[-1] else _usual()


def _unreadable(config: Path, problem: Problem) -> SystemExit:
    click.echo(str(ConfigErrors(str(config), [problem])), err=True)
    click.echo(
        "so it does not say where the list of model files is: mend it, or name one with --manifest", err=True
    )
    return SystemExit(2)
