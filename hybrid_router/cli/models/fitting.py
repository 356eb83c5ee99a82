"""`models fit`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hybrid_router.cli.models.told import chosen_or_exit, complain, none_listed
from hybrid_router.cli.models.unplaced import NOT_PLACED, commands, state_of
from hybrid_router.cli.models.where import Where, told_where
from hybrid_router.models import weights
from hybrid_router.models.entry import Entry
from hybrid_router.models.errors import ModelFileError

if TYPE_CHECKING:
    from hybrid_router.models.fitting import Room

_CONTEXTS = tuple(1024 * 2**power for power in range(1, 8))  # 2k … 128k
_WIDTH = 120  # a narrower terminal folds the lines
_LEGEND = """
needs: memory for one call at a time, before any context; an estimate on the safe side.
fits: yes, into what is free now; if alone, once other models and programs have made room; no, never here.
2k to 128k: the same with so many tokens of context; -, beyond what it was trained for.
"""


@click.command()
@click.argument("names", nargs=-1)
@told_where
def fit(where: Where, names: tuple[str, ...]) -> None:
    """Show what of NAMES, or of all, fits this machine's memory, and with how much context.

    An estimate for one call at a time, from the files alone: nothing is loaded.
    """
    from rich.console import Console  # noqa: PLC0415  # only this command draws a table
    from rich.table import Table  # noqa: PLC0415

    from hybrid_router.models.fitting import here, shown  # noqa: PLC0415

    entries = chosen_or_exit(where.manifest, names)
    if not entries:
        none_listed(where.manifest)
        return
    room = here()
    table = Table(box=None, pad_edge=False)
    for column in ("name", "engine", "needs", "fits", *(f"{context // 1024}k" for context in _CONTEXTS)):
        table.add_column(column, no_wrap=True)
    states = {name: state_of(entry, where.manifest.parent) for name, entry in entries.items()}
    for name, entry in entries.items():
        table.add_row(name, entry.engine, *_row(room, entry, where.manifest.parent, states[name]))
    click.echo(shown(room))
    Console(width=max(Console().width, _WIDTH)).print(table)
    click.echo(_LEGEND, nl=False)
    for line in commands(entries, states):
        click.echo(line)


def _row(room: Room, entry: Entry, models_dir: Path, state: str) -> Iterator[str]:
    """What it needs, whether it fits, and whether with each context."""
    from hybrid_router.models.fitting import judge  # noqa: PLC0415

    if state in {NOT_PLACED, weights.State.MISSING}:
        yield state
        return
    try:
        yield from judge(room, entry, weights.locate(entry, models_dir), _CONTEXTS)
    except ModelFileError as e:
        complain(e)
        yield "see above"
