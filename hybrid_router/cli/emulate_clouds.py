"""`hybrid-router emulate openai` and others: clouds that are no Cloudflare, on loopback."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import click

from hybrid_router.emulator import anthropic as emulated_anthropic
from hybrid_router.emulator import huggingface as emulated_huggingface
from hybrid_router.emulator import openai as emulated_openai
from hybrid_router.emulator import replicate as emulated_replicate
from hybrid_router.emulator.settings import DEFAULT_TOKEN, Settings
from hybrid_router.emulator.stage import RunningCloud

Serve = Callable[[Settings], AbstractAsyncContextManager[RunningCloud]]
Shown = Callable[[RunningCloud], str]


def command_of(name: str, title: str, serve: Serve, shown: Shown) -> click.Command:
    """The command that plays one cloud.

    Args:
        name: what is written behind `emulate`.
        title: what the cloud is called.
        shown: its addresses, as router.yaml has them.
    """

    @click.command(name, help=f"Play {title} with answers that are known beforehand.")
    @click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
    @click.option(
        "--port", default=8789, show_default=True, type=click.IntRange(0, 65535), help="0: any free one."
    )
    @click.option("--token", default=DEFAULT_TOKEN, help="The token that is accepted.  [default: emulator]")
    @click.option(
        "--token-delay",
        default=0.0,
        type=click.FloatRange(0, 60),
        help="Seconds between the events of a stream.",
    )
    def play(*, host: str, port: int, token: str, token_delay: float) -> None:
        settings = Settings(host=host, port=port, token=token, token_delay_s=token_delay)
        try:
            asyncio.run(_until_told(settings, title, serve, shown))
        except OSError as error:
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise click.ClickException(
                f"cannot listen on {host}:{port}: {why}; name another with --port (0: any free one) or --host"
            ) from error

    return play


async def _until_told(settings: Settings, title: str, serve: Serve, shown: Shown) -> None:
    """Serve until SIGINT or SIGTERM.  A token of one's own is not shown."""
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    async with serve(settings) as running:
        token = running.token if running.token == DEFAULT_TOKEN else "(as given)"
        click.echo(f"{title} emulator ready: {shown(running)}  token: {token}")
        await told.wait()


openai = command_of("openai", "OpenAI", emulated_openai.serve, lambda running: f"base_url: {running.root}/v1")
huggingface = command_of(
    "huggingface",
    "Hugging Face",
    emulated_huggingface.serve,
    lambda running: f"base_url: {running.root}/v1  tasks_url: {running.root}/hf-inference",
)
anthropic = command_of(
    "anthropic", "Anthropic", emulated_anthropic.serve, lambda running: f"base_url: {running.root}"
)
replicate = command_of(
    "replicate", "Replicate", emulated_replicate.serve, lambda running: f"base_url: {running.root}/v1"
)
