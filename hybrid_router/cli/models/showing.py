"""`models show` and `models fit`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import yaml

from hybrid_router.cli.models.told import chosen_or_exit, complain, exit_1_on_failure
from hybrid_router.models import header, weights, writing
from hybrid_router.models.entry import Entry
from hybrid_router.models.errors import ModelFileError

if TYPE_CHECKING:
    from hybrid_router.models.fitting import Room

_CONTEXTS = tuple(1024 * 2**power for power in range(1, 8))  # 2k … 128k
_WIDTH = 120  # a narrower terminal folds the lines


@click.command()
@click.argument("name")
@click.pass_obj
def show(manifest_path: Path, name: str) -> None:
    """Show all that is known of NAME: its entry, the state of its files, and what they say of themselves."""
    entry = chosen_or_exit(manifest_path, (name,))[name]
    models_dir = manifest_path.parent
    state = weights.state(entry, models_dir)
    click.echo(writing.rendered({name: entry}, 0).strip())
    told = {"path": str(weights.locate(entry, models_dir)), "digest": entry.digest, "state": str(state)}
    click.echo(f"\n{_lines(told)}", nl=False)
    if state is not weights.State.MISSING:
        with exit_1_on_failure():
            click.echo(_lines(header.describe(weights.locate(entry, models_dir))), nl=False)


def _lines(told: dict[str, str]) -> str:
    return yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=1000) if told else ""


@click.command()
@click.argument("names", nargs=-1)
@click.pass_obj
def fit(manifest_path: Path, names: tuple[str, ...]) -> None:
    """Show what of NAMES, or of all, fits this machine's memory, and with how much context.

    An estimate for one call at a time.  `yes`: it fits what is free now; `if alone`: it fits once other
    models and programs have made room; `no`: never; `-`: beyond what it was trained for.
    """
    from rich.console import Console  # noqa: PLC0415  # only this command draws a table
    from rich.table import Table  # noqa: PLC0415

    from hybrid_router.models.fitting import here, shown  # noqa: PLC0415

    room = here()
    columns = [f"{context // 1024}k" for context in _CONTEXTS]
    table = Table(box=None, pad_edge=False)
    for column in ("name", "engine", "needs", *columns):
        table.add_column(column, no_wrap=True)
    for name, entry in chosen_or_exit(manifest_path, names).items():
        path = weights.locate(entry, manifest_path.parent)
        table.add_row(name, entry.engine, *_row(room, entry, path))
    click.echo(shown(room))
    Console(width=max(Console().width, _WIDTH)).print(table)


def _row(room: Room, entry: Entry, path: Path) -> Iterator[str]:
    from hybrid_router.models.fitting import judge  # noqa: PLC0415

    if not path.exists():
        yield "missing"
        return
    try:
        yield from judge(room, entry, path, _CONTEXTS)
    except ModelFileError as e:
        complain(e)
        yield "unreadable"
