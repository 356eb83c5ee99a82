"""`hybrid-router serve`: from a file to an address that answers, until a signal says stop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click

from hybrid_router.app.router import Running, beside, running
from hybrid_router.cli.announce import announcement
from hybrid_router.cli.doubts import of_cloud_models
from hybrid_router.config.load import ConfigErrors, load
from hybrid_router.config.schema import Loaded
from hybrid_router.observe.logs import Format, Logs, LogSettings, configure
from hybrid_router.observe.notify import Notifier

BAD_CONFIGURATION = 2
_STDERR = 2
INTERRUPTED = 130  # a second signal came while calls were finishing


@click.command()
@click.option(
    "--config",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("router.yaml"),
    show_default=True,
    help="The configuration.",
)
@click.option(
    "--log-format",
    type=click.Choice(["auto", "json", "console"]),
    default="auto",
    show_default=True,
    help="Lines on standard error: console for people, json for programs; auto: by whether it is a terminal.",
)
def command(path: Path, log_format: Format) -> None:
    """Answer calls on the address that router.yaml names."""
    started_s = time.monotonic()
    _hold_standard_descriptors()
    try:
        loaded = load(path, os.environ)
    except ConfigErrors as errors:
        click.echo(str(errors), err=True)
        raise SystemExit(BAD_CONFIGURATION) from None
    settings = LogSettings(
        level=loaded.config.log.level,
        calls=loaded.config.log.calls,
        format=log_format,
        secrets=tuple(loaded.secrets.values()),
    )
    with configure(settings) as logs, Notifier.from_environment(os.environ) as notifier:
        for doubt in of_cloud_models(loaded):  # what is wrong with local ones is logged when they start
            logs.logger.warning("model in doubt", where=f"{path}:{doubt.line}", message=doubt.message)
        try:
            asyncio.run(_serve(loaded, logs, notifier, started_s))
        except asyncio.CancelledError:
            raise SystemExit(INTERRUPTED) from None
        except OSError as error:
            where = loaded.config.server.listen
            raise click.ClickException(
                f"cannot listen on {where}: {error.strerror or error}; change server.listen in {path}"
            ) from None


async def _serve(loaded: Loaded, logs: Logs, notifier: Notifier, started_s: float) -> None:
    """Serve until SIGTERM or SIGINT; a second signal ends at once.  SIGHUP: take up router.yaml anew."""
    stop, reload = asyncio.Event(), asyncio.Event()
    serving = asyncio.current_task()
    loop = asyncio.get_running_loop()
    had_terminal = _has_terminal() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN

    def stopped() -> None:
        if stop.is_set() and serving is not None:
            serving.cancel()
        stop.set()

    def hung_up() -> None:
        if had_terminal and not _has_terminal():  # its window was closed: nobody wants us any more
            stop.set()
        else:
            reload.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped)
    loop.add_signal_handler(signal.SIGHUP, hung_up)
    alive = asyncio.create_task(notifier.keep_alive())
    try:
        async with (
            running(loaded, logs, notifier=notifier) as router,
            beside(_reload(router, reload)),
        ):
            await _first(router.settled(), stop.wait())
            _settle_memory()
            if not stop.is_set():
                click.echo(announcement(router, loaded.config))
                took_s = round(time.monotonic() - started_s, 3)
                off = {"off": router.off} if router.off else {}
                logs.logger.info("ready", url=router.url, startup_s=took_s, **off)
                notifier.ready(f"answers on {router.url}")
            await stop.wait()
            notifier.stopping("finishing calls in flight")
            logs.logger.info("stopping", drain_s=router.config.server.drain)
    finally:
        alive.cancel()


async def _reload(router: Running, wanted: asyncio.Event) -> None:
    """Take up router.yaml anew whenever that is wanted.  Its outcome is logged."""
    while True:
        await wanted.wait()
        wanted.clear()
        await router.reload()


def _has_terminal() -> bool:
    """Whether a terminal controls this process.  One that was closed does so no longer."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _hold_standard_descriptors() -> None:
    """Where 0, 1 or 2 was closed for us, put /dev/null: the next socket or file would be there.

    The log would then be written into it: into a client's connection, or the store.
    """
    while (spare := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(spare)


def _settle_memory() -> None:
    """What start-up made stays: the collector need not look at it again, nor run for every few calls."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def _first(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait for one of several; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
