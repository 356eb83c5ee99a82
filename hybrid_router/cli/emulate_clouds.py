"""`hybrid-router emulate openai` and others: clouds that are no Cloudflare, on loopback."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import click

from hybrid_router.cli import emulate_port
from hybrid_router.emulator import anthropic as emulated_anthropic
from hybrid_router.emulator import huggingface as emulated_huggingface
from hybrid_router.emulator import openai as emulated_openai
from hybrid_router.emulator import replicate as emulated_replicate
from hybrid_router.emulator.settings import Settings
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
    @emulate_port.options(port=8789)
    def play(*, host: str, port: int, token: str, token_delay: float) -> None:
        settings = Settings(host=host, port=port, token=token, token_delay_s=token_delay)
        emulate_port.play(settings, serving(settings))

    @asynccontextmanager
    async def serving(settings: Settings) -> AsyncGenerator[str]:
        async with serve(settings) as running:
            token = emulate_port.shown_token(running.token)
            yield f"{title} emulator ready: {shown(running)}  token: {token}"

    return play


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
