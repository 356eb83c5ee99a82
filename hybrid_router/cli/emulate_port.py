"""What every `hybrid-router emulate` command has: address, token, pace, and a life until it is told."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import click

from hybrid_router.emulator.settings import DEFAULT_TOKEN, Settings

Command = TypeVar("Command", bound=Callable[..., Any])


def options(*, port: int) -> Callable[[Command], Command]:
    """`--host`, `--port`, which is usually `port`, `--token` and `--token-delay`."""
    added = (
        click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
        click.option(
            "--port",
            default=port,
            show_default=True,
            type=click.IntRange(0, 65535),
            help="0: any free one.",
        ),
        click.option(
            "--token",
            default=DEFAULT_TOKEN,
            help="The token that is accepted; an empty one: anybody may ask.  [default: emulator]",
        ),
        click.option(
            "--token-delay",
            default=0.0,
            type=click.FloatRange(0, 60),
            help="Seconds between the events of a stream.",
        ),
    )

    def add(command: Command) -> Command:
        for option in reversed(added):
            command = option(command)
        return command

    return add


def play(settings: Settings, serving: AbstractAsyncContextManager[str]) -> None:
    """Serve until SIGINT or SIGTERM, and say so once it does: `serving` gives the line.

    Raises:
        click.ClickException: the port cannot be had.
    """
    try:
        asyncio.run(_until_told(serving))
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
        raise click.ClickException(
            f"cannot listen on {settings.host}:{settings.port}: {why}; "
            "name another with --port (0: any free one) or --host"
        ) from error


def shown_token(token: str) -> str:
    """The token as the ready line has it: one of one's own is not shown."""
    if not token:
        return "(any or none)"
    return token if token == DEFAULT_TOKEN else "(as given)"


async def _until_told(serving: AbstractAsyncContextManager[str]) -> None:
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    async with serving as line:
        click.echo(line)
        await told.wait()
