"""`hybrid-router models`: bring model files in, look after them, and take them out."""

from __future__ import annotations

from pathlib import Path

import click

from hybrid_router.cli.models.bringing import add, pull
from hybrid_router.cli.models.listing import list_models, place, verify
from hybrid_router.cli.models.removing import rm
from hybrid_router.cli.models.showing import fit, show


@click.group(name="models", commands=[add, pull, list_models, show, verify, place, fit, rm])
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
    """Add, list, verify, show and remove model files."""
    ctx.obj = manifest_path


__all__ = ["command"]
