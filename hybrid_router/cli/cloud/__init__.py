"""`hybrid-router cloud`: the Workers AI account behind a backend, beside the calls that go to it."""

from __future__ import annotations

from pathlib import Path

import click

from hybrid_router.cli.cloud.batch import batch
from hybrid_router.cli.cloud.finetunes import finetunes
from hybrid_router.cli.cloud.markdown import markdown
from hybrid_router.cli.cloud.models import models
from hybrid_router.cli.cloud.opened import Wanted


@click.group(name="cloud", commands=[finetunes, models, markdown, batch])
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=Path("router.yaml"),
    show_default=True,
    help="The configuration that names the account.",
)
@click.option("--backend", help="Which backend of type workers_ai.  [default: the only one]")
@click.pass_context
def command(ctx: click.Context, path: Path, backend: str | None) -> None:
    """Look after the Workers AI account: fine-tunes, models, documents, batches.

    What is asked here goes straight to the account, past rules, gateway and budget: `hybrid-router budget`
    does not count it.
    """
    ctx.obj = Wanted(path=path, backend=backend)


__all__ = ["command"]
