"""`models show`."""

from __future__ import annotations

import click
import yaml

from hybrid_router.cli.models.told import chosen_or_exit, exit_1_on_failure
from hybrid_router.cli.models.unplaced import NOT_PLACED, commands, state_of
from hybrid_router.cli.models.where import Where, told_where
from hybrid_router.models import header, weights, writing


@click.command()
@click.argument("name")
@told_where
def show(where: Where, name: str) -> None:
    """Show all that is known of NAME: its entry, the state of its files, and what they say of themselves."""
    entry = chosen_or_exit(where.manifest, (name,))[name]
    models_dir = where.manifest.parent
    state = state_of(entry, models_dir)
    click.echo(writing.rendered({name: entry}, 0).strip())
    told = {"path": str(weights.locate(entry, models_dir)), "digest": entry.digest, "state": state}
    click.echo(f"\n{_lines(told)}", nl=False)
    for line in commands({name: entry}, {name: state}):
        click.echo(line)
    if state not in {NOT_PLACED, weights.State.MISSING}:
        with exit_1_on_failure():
            click.echo(_lines(header.describe(weights.locate(entry, models_dir))), nl=False)


def _lines(told: dict[str, str]) -> str:
    return yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=1000) if told else ""
