"""`models add` and `models pull`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from hybrid_router.cli.models.told import bars, exit_1_on_failure, file_size, left_out
from hybrid_router.cli.models.where import Where, told_where
from hybrid_router.models import adding, from_packages, ollama
from hybrid_router.models.adding import Added, Chosen
from hybrid_router.models.entry import EngineName

_INTERRUPTED = 130  # as a shell calls what ended by Ctrl+C

F = TypeVar("F", bound=Callable[..., Any])


def _said(function: F) -> F:
    """What may be said of a model, whatever it comes from."""
    for option in (
        click.option("--name", help="What router.yaml calls it.  Default: from the file or repository."),
        click.option(
            "--engine", type=click.Choice(get_args(EngineName)), help="Default: told from the files."
        ),
        click.option("--licence", help="Default: what the files or their publisher say."),
    ):
        function = option(function)
    return function


@click.command()
@_said
@click.option(
    "--how",
    type=click.Choice(get_args(adding.How)),
    default="link",
    show_default=True,
    help="A hard link (a symlink across file systems), a symlink, or a copy.",
)
@click.option("--package", "packages", multiple=True, help="An installed Python package; again for parts.")
@click.option("--ollama", "wanted", help="A model of the Ollama store: name, name:tag or owner/name:tag.")
@click.option(
    "--store", type=click.Path(path_type=Path), help="The Ollama store, if it is not the usual one."
)
@click.argument("path", type=click.Path(path_type=Path), required=False)
@told_where
def add(
    where: Where,
    /,
    *,
    path: Path | None,
    packages: tuple[str, ...],
    wanted: str | None,
    store: Path | None,
    **said: Any,
) -> None:
    """Add a model that is on this machine: the file or folder PATH, a package's, or Ollama's.

    The files come into the models folder without a second copy, and into the manifest with their SHA-256.
    """
    if sum((path is not None, bool(packages), wanted is not None)) != 1:
        raise click.UsageError("name one thing: PATH, --package or --ollama")
    chosen = Chosen(**said)
    with exit_1_on_failure(), bars() as drawn:
        progress = partial(drawn.told_of, "reading", _size_bytes(path))
        added: tuple[Added, ...]
        if path is not None:
            added = (adding.add_path(where.manifest, path, chosen, progress),)
        elif packages:
            added = (from_packages.add(where.manifest, packages, chosen, progress),)
        else:
            found = store or ollama.default_store(os.environ)
            added = ollama.add(where.manifest, found, str(wanted), chosen, progress)
    for each in added:
        _tell(each)


@click.command()
@_said
@click.option(
    "--file", "patterns", multiple=True, help="Only files that fit, as in '*Q4_K_M.gguf'; may be repeated."
)
@click.option(
    "--revision", help="A branch, tag or commit.  Default: the newest.  It is pinned to its commit."
)
@click.argument("repo")
@told_where
def pull(where: Where, /, *, repo: str, patterns: tuple[str, ...], revision: str | None, **said: Any) -> None:
    """Download a model from a Hugging Face repository, REPO as owner/name, and add it.

    An interrupted download goes on where it stopped.  HF_TOKEN is sent to the hub alone; HF_ENDPOINT names
    another hub.
    """
    from hybrid_router.models import pulling  # noqa: PLC0415  # only this command speaks HTTP

    wanted = pulling.Wanted(repo=repo, revision=revision, patterns=patterns)
    with exit_1_on_failure(), bars() as drawn:
        try:
            added = asyncio.run(pulling.pull(where.manifest, wanted, Chosen(**said), drawn.told))
        except KeyboardInterrupt:
            click.echo(f"\nstopped; {pulling.KEPT}", err=True)
            raise SystemExit(_INTERRUPTED) from None
    _tell(added)


def _tell(added: Added) -> None:
    entry = added.entry
    click.echo(
        f"{added.name}: added for the engine {entry.engine}, {file_size(entry.size_bytes)}, "
        f"licence {entry.licence}\n  sha256 {entry.digest}"
    )
    for line in (*left_out(added.left), *added.notes):
        click.echo(f"  {line}")


def _size_bytes(path: Path | None) -> int:
    """What is to be read, as far as that is known."""
    if path is None:
        return 0
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files)
