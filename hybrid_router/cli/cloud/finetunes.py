"""`cloud finetunes`."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from hybrid_router.backends.workers_ai import finetunes as account
from hybrid_router.backends.workers_ai.desk import Desk
from hybrid_router.backends.workers_ai.finetunes import CONFIG, WEIGHTS, FineTune, NotUploadable
from hybrid_router.cli.cloud.opened import About, Wanted, asked, refuse

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group()
def finetunes() -> None:
    """LoRA fine-tunes: list, make, and give them their files.

    A call names one in `lora`, an alias in `adapters`, by its name or id.
    """


@finetunes.command(name="list")
@click.option("--public", is_flag=True, help="Everybody's instead of the account's own.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def list_(wanted: Wanted, public: bool, as_json: bool) -> None:
    """Show the account's fine-tunes."""
    found = asked(wanted, lambda desk: account.listed(desk, public=public))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
        return
    for each in found:
        click.echo(_line(each))
    if not found:
        click.echo("There are none.")


@finetunes.command()
@click.option("--description", default="", help="What it is for.")
@click.option("--public", is_flag=True, help="Every account may use it.")
@click.option("--from", "folder", type=_FOLDER, help="Upload its files from this folder, too.")
@click.argument("model")
@click.argument("name")
@click.pass_obj
def create(
    wanted: Wanted, /, *, model: str, name: str, description: str, public: bool, folder: Path | None
) -> None:
    """Make the fine-tune NAME of MODEL, one that the catalogue says takes LoRA."""
    files = _checked(folder) if folder is not None else ()

    async def make(desk: Desk) -> FineTune:
        made = await account.create(desk, model, name, description=description, public=public)
        click.echo(_line(made))
        await account.upload(desk, made.id, files)
        return made

    asked(wanted, make, About(name=model))
    if files:
        click.echo(f"{name}: both files are there")
    else:
        click.echo(f"it has no files yet: hybrid-router cloud finetunes upload {name} FOLDER")


@finetunes.command()
@click.argument("name")
@click.argument("folder", type=_FOLDER)
@click.pass_obj
def upload(wanted: Wanted, name: str, folder: Path) -> None:
    """Give the fine-tune NAME (or id) its two files, which are looked at first.

    FOLDER holds adapter_model.safetensors and adapter_config.json.  They cannot be changed there afterwards.
    """
    files = _checked(folder)
    about = About(name=name, what="fine-tune", listing="finetunes list")
    asked(wanted, lambda desk: account.upload(desk, name, files), about)
    click.echo(f"{name}: {WEIGHTS} and {CONFIG} are there")


def _checked(folder: Path) -> tuple[Path, Path]:
    try:
        return account.checked(folder)
    except (NotUploadable, OSError) as error:
        refuse(str(error))


def _line(each: FineTune) -> str:
    return "  ".join(part for part in (each.name, each.id, each.model, each.description or "") if part)
