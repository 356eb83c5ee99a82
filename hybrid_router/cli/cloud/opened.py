"""Which account a command is about, and how its failures are told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import click
from msgspec import Struct

from hybrid_router.backends.workers_ai.desk import Desk
from hybrid_router.backends.workers_ai.refusal import ModelGone, NoSuch
from hybrid_router.cli.check import loaded_or_exit
from hybrid_router.config.cloud_schema import WorkersAIBackend
from hybrid_router.config.problems import did_you_mean
from hybrid_router.config.schema import Loaded
from hybrid_router.core.errors import RouterError
from hybrid_router.core.secret import Secret

T = TypeVar("T")
INTERRUPTED = 130  # as a shell calls what ended by Ctrl+C


class Wanted(Struct, frozen=True, kw_only=True):
    """What was said before the command's name."""

    path: Path
    backend: str | None = None


class About(Struct, frozen=True, kw_only=True):
    """What the command line names: `what` it is, and the command that lists the others."""

    name: str
    what: str = "model"
    listing: str = "models search"


def desk_of(loaded: Loaded, backend: str | None) -> Desk:
    """The account of a backend, or of the only one there is; exit 2 if that says nothing, or it is off."""
    found = {
        name: each for name, each in loaded.config.backends.items() if isinstance(each, WorkersAIBackend)
    }
    name = backend or (next(iter(found)) if len(found) == 1 else None)
    if name is None:
        which = f"name one of {', '.join(found)} with --backend" if found else "add one"
        refuse(f"{loaded.path} has {len(found)} backends of type workers_ai: {which}")
    if name not in found:
        refuse(f"{loaded.path} has no backend {name} of type workers_ai{did_you_mean(name, found)}")
    if name in loaded.off:
        refuse(f"{name} is off: {loaded.off[name]}")
    account = loaded.secrets.get(f"{name}.account_id") or found[name].account_id
    revealed = account.reveal() if isinstance(account, Secret) else str(account)
    return Desk(found[name], revealed, loaded.secrets[f"{name}.token"])


def asked(wanted: Wanted, asking: Callable[[Desk], Awaitable[T]], about: About | None = None) -> T:
    """What the account answers; its refusal is told, and ends the command with exit 1."""
    return run(desk_of(loaded_or_exit(wanted.path), wanted.backend), asking, about)


def run(desk: Desk, asking: Callable[[Desk], Awaitable[T]], about: About | None = None) -> T:
    """The same of an account that was found."""

    async def opened() -> T:
        async with desk:
            return await asking(desk)

    try:
        return asyncio.run(opened())
    except RouterError as error:
        click.echo(words(error, about), err=True)
        raise SystemExit(1) from error


def words(error: RouterError, about: About | None) -> str:
    """What is said of an error.  A name that was on the command line is not looked for in router.yaml."""
    if about is None or not isinstance(error, ModelGone):
        return error.message
    way = f"hybrid-router cloud {about.listing} shows what there is"
    if isinstance(error, NoSuch):
        return f"Workers AI has no {about.what} {about.name}: {way}"
    return f"Workers AI has retired {about.name}: {way}"


def refuse(why: str) -> NoReturn:
    """End the command before anything was asked."""
    click.echo(why, err=True)
    raise SystemExit(2)
