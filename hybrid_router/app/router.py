"""A router that answers: everything put together, and let go of in the right order."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from hybrid_router import __version__
from hybrid_router.api.control import Outcome, create_control
from hybrid_router.api.control_socket import FolderTaken, control_socket
from hybrid_router.api.generation import CURRENT
from hybrid_router.api.runner import Listener
from hybrid_router.api.server import application_for
from hybrid_router.api.sockets import bound, release
from hybrid_router.app import lines
from hybrid_router.app.backends import Backends, close, open_backends
from hybrid_router.app.gauges import watch_calls, watch_knowledge, watch_models, watch_process
from hybrid_router.app.hooks import Hooks
from hybrid_router.app.live import Live, Succession
from hybrid_router.app.memory import Memory, remembered
from hybrid_router.app.reload import Build, Reloader
from hybrid_router.config.cloud_schema import WorkersAIBackend
from hybrid_router.config.schema import Config, Loaded
from hybrid_router.config.state import state_folder
from hybrid_router.dispatch.service import Service
from hybrid_router.dispatch.turnstile import OnAttempt
from hybrid_router.observe.lag import LagWatch
from hybrid_router.observe.logs import Logs
from hybrid_router.observe.metrics import Metrics
from hybrid_router.observe.notify import Notifier
from hybrid_router.routing.policy import compile_policy
from hybrid_router.workers.worker import Worker


class Running:
    """A router that answers.

    Attributes:
        url: where.
    """

    def __init__(self, url: str, succession: Succession, reloader: Reloader) -> None:
        self.url = url
        self._succession = succession
        self._reloader = reloader

    @property
    def service(self) -> Service:
        """What answers now."""
        return self._succession.live.service

    @property
    def workers(self) -> dict[str, Worker]:
        """`backend/model` → the worker that keeps it."""
        return self._succession.live.backends.workers

    @property
    def off(self) -> dict[str, str]:
        """Backend → why it is off."""
        return self._succession.live.backends.off

    @property
    def config(self) -> Config:
        """What is served now."""
        return self._succession.live.loaded.config

    async def settled(self) -> None:
        """Wait until every preloaded model is resident, or dead."""
        await asyncio.gather(*(worker.settled() for worker in self.workers.values()))

    async def reload(self) -> Outcome:
        """Take up router.yaml anew; see `Reloader.reload`."""
        return await self._reloader.reload()


@asynccontextmanager
async def running(
    loaded: Loaded, logs: Logs, *, environ: Mapping[str, str] = os.environ, notifier: Notifier | None = None
) -> AsyncIterator[Running]:
    """Serve a configuration until the context is left; then drain and let go of everything.

    Enters when requests are answered; who connected before that has waited.  Models may still be loading
    (`Running.settled`).

    Args:
        environ: what a reload reads secrets from.
        notifier: hears of reloads.

    Raises:
        OSError: the address is taken, or not ours.
    """
    async with AsyncExitStack() as stack:
        sockets = await bound(loaded.config.server.listen)  # first: no model loads for a taken address
        stack.callback(release, sockets)
        memory = await stack.enter_async_context(remembered(loaded, logs, environ))
        hooks = Hooks(logs)
        metrics = Metrics(hooks.shield)
        on_attempt = hooks.each(log=logs.attempt_line, metrics=metrics.attempt)
        build = partial(_service, memory=memory, metrics=metrics, on_attempt=on_attempt)
        live = await _first(loaded, logs, build, environ)
        application = application_for(
            live.generation,
            __version__,
            on_call=hooks.each(log=partial(lines.call_line, logs), metrics=metrics.call, store=memory.keep),
            on_refusal=hooks.each(log=lines.refused_line(logs), metrics=metrics.refused),
            told=metrics.text,
            directory=live.backends.directory,
        )
        succession = Succession(live, application[CURRENT], logs)
        stack.push_async_callback(succession.close)
        reloader = Reloader(
            succession,
            logs,
            build,
            environ=environ,
            notifier=notifier or Notifier(None),
            on_outcome=lambda outcome: metrics.reloaded(ok=outcome.ok),
        )
        listener = await stack.enter_async_context(Listener(application, sockets))
        lag = LagWatch(logs.stall_line)
        watch_process(metrics, hooks, logs, lag)
        watch_calls(metrics, succession)
        watch_models(metrics, live.backends.house)
        watch_knowledge(metrics, memory)
        await stack.enter_async_context(beside(lag.run()))
        await stack.enter_async_context(_controlled(reloader, state_folder(loaded, environ), logs))
        await stack.enter_async_context(beside(reloader.run()))
        yield Running(listener.url, succession, reloader)


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have work done by a task of its own while the context lasts."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


@asynccontextmanager
async def _controlled(reloader: Reloader, folder: Path, logs: Logs) -> AsyncIterator[None]:
    """Answer on the control socket, or go without one and say why."""
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(control_socket(create_control(reloader), folder))
        except FolderTaken as taken:
            logs.logger.warning("no control socket", folder=str(folder), reason=str(taken))
        except OSError as error:
            logs.logger.warning("no control socket", folder=str(folder), reason=error.strerror)
        yield


async def _first(loaded: Loaded, logs: Logs, build: Build, environ: Mapping[str, str]) -> Live:
    """The configuration that the router starts with, put to work."""
    backends = await open_backends(loaded, logs, environ=environ)
    try:
        return Live.of(1, loaded, backends, build(loaded, backends))
    except BaseException:
        await close(backends.parts.values())
        raise


def _service(
    loaded: Loaded, backends: Backends, memory: Memory, metrics: Metrics, on_attempt: OnAttempt
) -> Service:
    """What answers calls by a configuration.  Called at the start and for every new configuration."""
    policy = compile_policy(loaded.config)
    memory.follow(loaded, backends.directory.catalogue)
    metrics.know(loaded.config.aliases)
    return Service(
        policy,
        backends.by_name,
        backends.off,
        on_attempt,
        knowledge=memory.knowledge,
        archive=memory.archive,
        default_max_tokens={
            name: backend.default_max_tokens
            for name, backend in loaded.config.backends.items()
            if isinstance(backend, WorkersAIBackend)
        },
    )
