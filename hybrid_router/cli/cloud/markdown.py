"""`cloud markdown`."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from hybrid_router.backends.workers_ai import markdown as account
from hybrid_router.backends.workers_ai.desk import Desk
from hybrid_router.backends.workers_ai.markdown import Converted, Format
from hybrid_router.cli.cloud.opened import Wanted, asked, refuse
from hybrid_router.core.upload import Upload, upload_of

_MOST_BYTES = 100 * 2**20
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--format", "format_", type=click.Choice(("markdown", "text")), default="markdown")
@click.option(
    "--to", "folder", type=click.Path(file_okay=False, path_type=Path), help="Write files there instead."
)
@click.argument("files", nargs=-1, required=True, type=_FILE)
@click.pass_obj
def markdown(wanted: Wanted, files: tuple[Path, ...], format_: Format, folder: Path | None) -> None:
    """Turn FILES (PDF, Office documents, HTML, pictures, CSV …) into Markdown; exit 1 if one failed.

    They leave this machine.  Descriptions of pictures cost neurons.
    """
    size_bytes = sum(path.stat().st_size for path in files)
    if size_bytes > _MOST_BYTES:
        refuse(f"the files have {size_bytes} bytes together: {_MOST_BYTES} are sent at once, so name fewer")
    found = asked(wanted, lambda desk: _converted(desk, files, format_))
    for path, each in zip(files, found, strict=False):
        if each.format == "error":
            click.echo(f"{path}: {each.error}", err=True)
        elif folder is None:
            click.echo(each.data)
        else:
            _write(folder, path, each)
    if len(found) < len(files) or any(each.format == "error" for each in found):
        raise SystemExit(1)


async def _converted(desk: Desk, files: Sequence[Path], format_: Format) -> list[Converted]:
    with ExitStack() as held:
        return await account.convert(desk, [_held(path, held) for path in files], format_)


def _held(path: Path, held: ExitStack) -> Upload:
    found = upload_of(path.read_bytes(), path.name, mimetypes.guess_type(path)[0] or "")
    held.callback(found.close)
    return found


def _write(folder: Path, path: Path, each: Converted) -> None:
    """Beside others of the same stem, so the whole name is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / f"{path.name}.{'md' if each.format == 'markdown' else 'txt'}"
    written.write_text(each.data, encoding="utf-8")
    click.echo(written)
