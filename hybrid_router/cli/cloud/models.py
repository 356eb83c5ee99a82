"""`cloud models`."""

from __future__ import annotations

import click
import msgspec

from hybrid_router.backends.workers_ai import directory
from hybrid_router.cli.cloud.opened import About, Wanted, asked


@click.group()
def models() -> None:
    """The account's own catalogue of models.

    `hybrid-router models refresh --cloud` has the router take it up.
    """


@models.command()
@click.option("--task", help="Only of one task, as in 'Text Generation'.")
@click.option("--author", help="Only of one author.")
@click.option("--deprecated", is_flag=True, help="Also those that are going or gone, for some months.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as they came.")
@click.argument("words", required=False)
@click.pass_obj
def search(
    wanted: Wanted,
    /,
    *,
    task: str | None,
    author: str | None,
    deprecated: bool,
    as_json: bool,
    words: str | None,
) -> None:
    """Show the models whose name or description has WORDS in it, or all."""
    said = {"search": words, "task": task, "author": author, "include_deprecated": "true" * deprecated}
    rows = asked(wanted, lambda desk: directory.search(desk, _said(said)))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2))
        return
    for row in rows:
        click.echo(f"{row['name']}  ({(row.get('task') or {}).get('name', 'task unknown')})")
    if not rows:
        click.echo("There is none.")


@models.command()
@click.argument("model")
@click.pass_obj
def schema(wanted: Wanted, model: str) -> None:
    """Print what MODEL takes and gives, as JSON Schema."""
    found = asked(wanted, lambda desk: directory.schema(desk, model), About(name=model))
    click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))


def _said(fields: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value}
