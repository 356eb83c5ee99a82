"""What these commands say: progress, entries, and what went wrong."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hybrid_router.models import manifest, weights
from hybrid_router.models.entry import Entry
from hybrid_router.models.errors import ModelFileError

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar  # click names this type nowhere else

_MOST_SHOWN = 12


class Bars:
    """A progress bar for each thing that is read, on a terminal; nothing where no terminal sees it."""

    def __init__(self, closing: contextlib.ExitStack) -> None:
        self._closing = closing
        self._label: str | None = None
        self._bar: ProgressBar[int] | None = None

    def told(self, label: str, read_bytes: int, size_bytes: int) -> None:
        """So many bytes are there by now."""
        if self._bar is None or self._label != label:
            self._closing.close()
            hidden = not sys.stderr.isatty()
            bar = click.progressbar(length=size_bytes, label=label, file=sys.stderr, hidden=hidden)
            self._bar, self._label = self._closing.enter_context(bar), label
        self._bar.update(read_bytes - self._bar.pos)

    def told_of(self, label: str, size_bytes: int, read_bytes: int) -> None:
        """The same, the size first."""
        self.told(label, read_bytes, size_bytes)


@contextlib.contextmanager
def bars() -> Iterator[Bars]:
    """Progress bars that end with the block."""
    with contextlib.ExitStack() as closing:
        yield Bars(closing)


def entries_or_exit(manifest_path: Path) -> dict[str, Entry]:
    """The manifest; exit 2 and every problem if it is wrong, or what to do if there is none."""
    if not manifest_path.exists():
        click.echo(
            f"there is no {manifest_path}: name your router.yaml with --config, or the list of model files "
            "with --manifest; `models add` and `models pull` make one",
            err=True,
        )
        raise SystemExit(2)
    try:
        return manifest.read(manifest_path)
    except ModelFileError as e:
        complain(e)
        raise SystemExit(2) from e


def chosen_or_exit(manifest_path: Path, names: Iterable[str]) -> dict[str, Entry]:
    """The entries of these names, or all; exit 2 if there is no such one."""
    entries = entries_or_exit(manifest_path)
    try:
        return {name: weights.find(entries, name) for name in names} or entries
    except ModelFileError as e:
        complain(e)
        raise SystemExit(2) from e


@contextlib.contextmanager
def exit_1_on_failure() -> Iterator[None]:
    """What is wrong with a model's files is said, and ends the command."""
    try:
        yield
    except ModelFileError as e:
        complain(e)
        raise SystemExit(1) from e


def complain(error: ModelFileError) -> None:
    """Say what is wrong and what to do."""
    click.echo(error.message, err=True)
    if error.detail:
        click.echo("\n".join(f"  {line}" for line in error.detail.splitlines()), err=True)


def none_listed(manifest_path: Path) -> None:
    """Say of an empty list how it is filled."""
    click.echo(
        f"{manifest_path} lists no model: `hybrid-router models add PATH` adds one that is on this machine, "
        "`hybrid-router models pull OWNER/NAME` downloads one"
    )


def left_out(left: dict[str, str]) -> list[str]:
    """Files that were not taken, a line each, the first dozen."""
    shown = [("".join(c if c.isprintable() else "?" for c in path), why) for path, why in left.items()]
    lines = [f"left out: {path} ({why})" for path, why in shown[:_MOST_SHOWN]]
    more = len(left) - _MOST_SHOWN
    return [*lines, f"left out: {more} more"] if more > 0 else lines


def file_size(size_bytes: int) -> str:
    """A file's size for people, in the decimal units of publishers."""
    for unit, bytes_each in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if size_bytes >= bytes_each:
            count = size_bytes / bytes_each
            return f"{count:.1f} {unit}" if unit == "GB" else f"{count:,.0f} {unit}"
    return f"{size_bytes} B"
