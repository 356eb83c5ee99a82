"""`models refresh`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from hybrid_router.catalogue import refresh as table
from hybrid_router.catalogue.workers_ai import Catalogue
from hybrid_router.cli.check import loaded_or_exit
from hybrid_router.cli.models.where import Where, told_where
from hybrid_router.config.state import state_folder

if TYPE_CHECKING:
    from hybrid_router.backends.workers_ai.desk import Desk

_MOST_SHOWN = 20


@click.command()
@click.option("--cloud", is_flag=True, help="The catalogue of Workers AI, from the account.")
@click.option("--backend", help="Which backend of type workers_ai.  [default: the only one]")
@told_where
def refresh(where: Where, cloud: bool, backend: str | None) -> None:
    """Take up what Workers AI offers today: models, prices, contexts, schemas, dates.

    Asks the account's model search, and writes the catalogue into the state folder, dated.  The router
    reads it when it starts or reloads, as long as it is newer than the one that ships.  Calls cost nothing.
    """
    if not cloud:
        raise click.UsageError("say what to refresh: --cloud is all there is")
    from hybrid_router.cli.cloud.opened import desk_of, run  # noqa: PLC0415  # only this command speaks HTTP

    loaded = loaded_or_exit(where.config)
    folder = state_folder(loaded, os.environ)
    before = table.newest(folder)
    rows, schemas = run(desk_of(loaded, backend), _asked)
    try:
        found = table.refreshed(before, rows, schemas, datetime.now(UTC).date())
        path = table.write(folder, found)
    except (table.NotAll, OSError) as error:
        click.echo(f"nothing is changed: {error}", err=True)
        raise SystemExit(1) from error
    for line in changes(before, found):
        click.echo(line)
    click.echo(f"{path}: {len(found.models)} models, dated {found.dated}; `hybrid-router reload` takes it up")


async def _asked(desk: Desk) -> tuple[list[dict[str, Any]], Mapping[str, Mapping[str, Any]]]:
    from hybrid_router.backends.workers_ai import directory  # noqa: PLC0415  # see above

    rows = await directory.search(desk, {"include_deprecated": "true"})
    hidden = not sys.stderr.isatty()
    with click.progressbar(length=len(rows), label="schemas", file=sys.stderr, hidden=hidden) as bar:
        return rows, await directory.schemas(desk, [row["name"] for row in rows], lambda: bar.update(1))


def changes(before: Catalogue, after: Catalogue) -> Iterable[str]:
    """What is new, gone, or costs something else: a line each, the first of them.

    That an id is told which was not published is no change of its model.
    """
    was, now = before.by_id(), after.by_id()
    lines = [f"new: {name} ({now[name].task})" for name in now if name not in was]
    for name, model in was.items():
        if now[name].gone and not model.gone:
            lines.append(f"gone: {name}")
        elif now[name].price != model.price:
            lines.append(f"another price: {name}")
        elif replace(now[name], uuid=model.uuid) != model:
            lines.append(f"changed: {name}")
    more = [f"and {len(lines) - _MOST_SHOWN} more"] if len(lines) > _MOST_SHOWN else []
    return lines[:_MOST_SHOWN] + more
