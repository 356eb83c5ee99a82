"""`hybrid-router emulate`: a cloud on loopback, to try and to test without an account."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import click

from hybrid_router.catalogue import workers_ai
from hybrid_router.cli import emulate_clouds, emulate_port
from hybrid_router.emulator.server import Running, serve
from hybrid_router.emulator.settings import DEFAULT_ACCOUNT_ID, Settings


@click.group()
def command() -> None:
    """Serve a cloud's API on loopback, to try and to test without an account."""


command.add_command(emulate_clouds.openai)
command.add_command(emulate_clouds.huggingface)
command.add_command(emulate_clouds.anthropic)
command.add_command(emulate_clouds.replicate)


@command.command()
@emulate_port.options(port=8788)
@click.option(
    "--account", default=DEFAULT_ACCOUNT_ID, help="Account id: 32 hexadecimal digits.  [default: 32 × e]"
)
@click.option(
    "--daily-neurons",
    default=10_000.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Allowance of a UTC day.",
)
@click.option("--paid", is_flag=True, help="Play the Workers Paid plan: no daily end, paid models answer.")
@click.option(
    "--quota-code", default="4006", type=click.Choice(["4006", "3036"]), help="What a spent day is told with."
)
@click.option("--rate-limits/--no-rate-limits", default=True, help="Count calls a minute.")
@click.option("--keep-retired", is_flag=True, help="Let models past their date answer as before it.")
@click.option(
    "--prefill",
    "prefills",
    metavar="MODEL",
    multiple=True,
    help="A model of Workers AI that goes on from a last message of the assistant.  May be repeated.",
)
@click.option(
    "--model",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A GGUF that answers instead of the script.",
)
@click.option(
    "--use-local",
    "local",
    metavar="ROUTER.YAML",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Let the local models of a router.yaml answer: for each operation the first that does it.",
)
def cloudflare(
    *,
    host: str,
    port: int,
    account: str,
    token: str,
    daily_neurons: float,
    paid: bool,
    quota_code: str,
    rate_limits: bool,
    keep_retired: bool,
    token_delay: float,
    prefills: tuple[str, ...],
    model: Path | None,
    local: Path | None,
) -> None:
    """Play Workers AI: every model of the catalogue, batches, fine-tunes and what else an account has."""
    if model is not None and local is not None:
        raise click.UsageError("--use-local and --model both say who answers: leave one out")
    if not re.fullmatch(r"[0-9a-f]{32}", account):
        raise click.BadParameter("an account id has 32 hexadecimal digits (0-9, a-f)", param_hint="--account")
    settings = Settings(
        host=host,
        port=port,
        account_id=account,
        token=token,
        daily_neurons=daily_neurons,
        paid=paid,
        quota_code=3036 if quota_code == "3036" else 4006,
        rate_limits=rate_limits,
        keep_retired=keep_retired,
        token_delay_s=token_delay,
        prefill_models=_known(prefills, model or local),
    )
    emulate_port.play(settings, _serving(settings, model, local))


def _known(prefills: tuple[str, ...], weights: Path | None) -> frozenset[str]:
    """The models that go on from the assistant's words, which only the script can play.

    Raises:
        click.UsageError: there is no such model, or a model file answers.
    """
    if prefills and weights is not None:
        raise click.UsageError("--prefill is played by the script: leave out --model and --use-local")
    known = workers_ai.load().by_id() if prefills else {}
    for name in prefills:
        if name not in known:
            raise click.BadParameter(f"Workers AI has no model {name!r}", param_hint="--prefill")
    return frozenset(prefills)


@asynccontextmanager
async def _serving(settings: Settings, weights: Path | None, local: Path | None) -> AsyncGenerator[str]:
    """Serve from the script, a model file or a router.yaml's models.  Yields the ready line."""
    async with AsyncExitStack() as stack:
        if weights is not None or local is not None:
            # Half a second that the script has no use for.
            from hybrid_router.cli import emulate_local  # noqa: PLC0415

            if weights is not None:
                source = await emulate_local.local_backend(weights)
                stack.push_async_callback(source.close)
                settings = dataclasses.replace(settings, source=source, source_model=weights.stem)
            if local is not None:
                sources = await stack.enter_async_context(emulate_local.local_sources(local))
                settings = dataclasses.replace(settings, sources=sources)
        yield ready_line(await stack.enter_async_context(serve(settings)))


def ready_line(running: Running) -> str:
    """What to put into router.yaml.  A token of one's own is not shown."""
    token = emulate_port.shown_token(running.token)
    where = f"base_url: {running.base_url}  account_id: {running.account_id}  token: {token}"
    return f"Workers AI emulator ready: {where}"
