"""`hybrid-router check`: is router.yaml right, and what does it come to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import click
import yaml

from hybrid_router.cli.doubts import doubts
from hybrid_router.cli.mistakes import mistakes
from hybrid_router.cli.room import counted
from hybrid_router.config.effective import effective
from hybrid_router.config.keys import listing
from hybrid_router.config.load import ConfigErrors, load
from hybrid_router.config.problems import line
from hybrid_router.config.schema import Loaded
from hybrid_router.workers.memory import Machine


@click.command(name="check")
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=Path("router.yaml"),
    show_default=True,
    help="The file to check.",
)
@click.option("--strict", is_flag=True, help="Exit 1 if there are warnings.")
@click.option("--keys", is_flag=True, help="List every key with type, default and meaning; read no file.")
def command(*, path: Path, strict: bool, keys: bool) -> None:
    """Validate router.yaml and print what it comes to, secrets hidden.

    Exits 2 and names everything that is wrong, each with line and key, if it cannot be used, or asks for
    what this machine's memory or a model's files cannot give.  What it names and nobody has is a warning:
    weights that the manifest lacks, models that Workers AI lacks.
    """
    if keys:
        click.echo(_keys(), nl=False)
        return
    loaded = loaded_or_exit(path)
    room = counted(loaded, Machine())
    if wrong := mistakes(room):
        _refuse(ConfigErrors(str(path), wrong))
    click.echo(_effective(loaded), nl=False)
    found = doubts(room)
    for doubt in found:
        click.echo(f"warning: {line(str(path), doubt)}", err=True)
    if found and strict:
        raise SystemExit(1)


def loaded_or_exit(path: Path) -> Loaded:
    """The configuration; every problem on standard error and exit 2 if it is wrong."""
    try:
        return load(path, os.environ)
    except ConfigErrors as errors:
        _refuse(errors)


def _refuse(errors: ConfigErrors) -> NoReturn:
    click.echo(str(errors), err=True)
    raise SystemExit(2) from errors


def _effective(loaded: Loaded) -> str:
    """YAML, with what is off in comments below."""
    text = yaml.safe_dump(effective(loaded), sort_keys=False, allow_unicode=True, width=110)
    off = "".join(f"# {name} is off: {why}\n" for name, why in loaded.off.items())
    return f"# {loaded.path} is valid; this is what it comes to.\n{text}{off}"


def _keys() -> str:
    lines = []
    for key in listing():
        default = f"; default {key.default}" if key.default not in {"", "required"} else ""
        required = "; required" if key.default == "required" else ""
        lines.append(f"{key.path}  ({key.type}{default}{required})\n    {key.meaning}\n")
    return "".join(lines)
