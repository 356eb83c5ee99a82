"""`models rm`: an entry and its files, unless somebody needs them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import click

from hybrid_router.cli.doubts import weights_of
from hybrid_router.cli.models.told import chosen_or_exit, entries_or_exit, exit_1_on_failure, file_size
from hybrid_router.cli.models.where import Where, told_where
from hybrid_router.config.backend_schema import LocalBackend
from hybrid_router.config.load import ConfigErrors, load
from hybrid_router.models import writing
from hybrid_router.models.entry import Entry
from hybrid_router.models.errors import ModelFileError


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Even if router.yaml uses it.")
@click.option("--keep-files", is_flag=True, help="Take out the entry alone.")
@click.argument("name")
@told_where
def rm(where: Where, *, name: str, yes: bool, force: bool, keep_files: bool) -> None:
    """Remove the entry NAME, and its files as far as no other entry lists them."""
    entry = chosen_or_exit(where.manifest, (name,))[name]
    if not force:
        _refuse_if_used(name, where)
    files = [] if keep_files else _own_files(name, entry, where.manifest)
    if not yes:
        size_bytes = sum(path.lstat().st_size for path in files)
        counted = "1 file" if len(files) == 1 else f"{len(files)} files"
        what = f" and {counted} ({file_size(size_bytes)})" if files else ""
        click.confirm(f"Remove {name}{what}?", abort=True)
    with exit_1_on_failure():
        writing.remove(where.manifest, name)
        _unlink(files, where.manifest.parent)
    click.echo(f"{name}: removed")


def _refuse_if_used(name: str, where: Where) -> None:
    """Exit 1 if the configuration names the entry, or cannot be read."""
    if not where.config.exists():
        return
    try:
        loaded = load(where.config, os.environ)
    except ConfigErrors as e:
        click.echo(f"{e}\nwhether {where.config} uses {name} cannot be told: mend it, or --force", err=True)
        raise SystemExit(1) from e
    listed = (where.config.parent / loaded.config.manifest).resolve()
    if listed != where.manifest.resolve():
        return
    users = [
        f"{backend}/{model}"
        for backend, written in loaded.config.backends.items()
        if isinstance(written, LocalBackend)
        for model, chosen in written.models.items()
        if name in {weights for _, weights in weights_of(model, chosen)}
    ]
    if users:
        click.echo(
            f"{where.config} uses {name} for {', '.join(users)}: take it out there, or --force", err=True
        )
        raise SystemExit(1)


def _own_files(name: str, entry: Entry, manifest_path: Path) -> list[Path]:
    """The entry's files that are there and that no other entry lists."""
    others = {
        item.path
        for other, each in entries_or_exit(manifest_path).items()
        if other != name
        for item in each.items
    }
    paths = [manifest_path.parent / item.path for item in entry.items if item.path not in others]
    return [path for path in paths if os.path.lexists(path)]


def _unlink(files: list[Path], models_dir: Path) -> None:
    """Remove files, and the folders that are empty after that."""
    try:
        for path in files:
            path.unlink(missing_ok=True)
    except OSError as e:
        raise ModelFileError(
            "the entry is gone, but not all of its files", detail=f"{e.filename}: {e.strerror}"
        ) from e
    above = {parent for path in files for parent in path.relative_to(models_dir).parents}
    for folder in sorted(above - {Path()}, reverse=True):
        with contextlib.suppress(OSError):  # not empty: somebody else's files are in there
            (models_dir / folder).rmdir()
