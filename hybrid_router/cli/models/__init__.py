"""`hybrid-router models`: bring model files in, look after them, and take them out."""

from __future__ import annotations

from pathlib import Path

import click

from hybrid_router.cli.models import where
from hybrid_router.cli.models.bringing import add, pull
from hybrid_router.cli.models.fitting import fit
from hybrid_router.cli.models.listing import list_models, place, verify
from hybrid_router.cli.models.refresh import refresh
from hybrid_router.cli.models.removing import rm
from hybrid_router.cli.models.showing import show


@click.group(name="models", commands=[add, pull, list_models, show, verify, place, fit, rm, refresh])
@where.options
@click.pass_context
def command(ctx: click.Context, config: Path | None, manifest: Path | None) -> None:
    """Add, list, verify, show and remove model files.

    All of them are about one list of model files, the manifest: the one that router.yaml names.
    """
    ctx.obj = (config, manifest)


__all__ = ["command"]
