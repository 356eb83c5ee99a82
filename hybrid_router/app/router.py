"""A router that answers: everything put together, and let go of in the right order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from msgspec import Struct

from hybrid_router import __version__
from hybrid_router.api.runner import Listener
from hybrid_router.api.server import create_application
from hybrid_router.api.sockets import bound, release
from hybrid_router.app import lines
from hybrid_router.app.backends import Backends, open_backends
from hybrid_router.config.schema import Loaded
from hybrid_router.dispatch.service import Service
from hybrid_router.observe.lag import LagWatch
from hybrid_router.observe.logs import Logs
from hybrid_router.routing.policy import compile_policy
from hybrid_router.workers.worker import Worker


class Running(Struct, kw_only=True):
    """A router that answers.

    Attributes:
        url: where.
        service: what answers.
        workers: `backend/model` → the worker that keeps it.
        off: backend → why it is off.
    """

    url: str
    service: Service
    workers: dict[str, Worker]
    off: dict[str, str]

    async def settled(self) -> None:
        """Wait until every preloaded model is resident, or dead."""
        await asyncio.gather(*(worker.settled() for worker in self.workers.values()))


@asynccontextmanager
async def running(loaded: Loaded, logs: Logs) -> AsyncIterator[Running]:
    """Serve a configuration until the context is left; then drain and let go of everything.

    Enters when requests are answered; who connected before that has waited.  Models may still be loading
    (`Running.settled`).

    Raises:
        OSError: the address is taken, or not ours.
    """
    async with AsyncExitStack() as stack:
        sockets = await bound(loaded.config.server.listen)  # first: no model loads for a taken address
        stack.callback(release, sockets)
        backends = Backends(off=dict(loaded.off))
        stack.push_async_callback(backends.close)
        await open_backends(backends, loaded, logs)
        service = _service(loaded, backends, logs)
        application = create_application(
            service,
            loaded.config.server,
            __version__,
            on_call=partial(lines.call_line, logs),
            on_refusal=lines.refused_line(logs),
        )
        listener = await stack.enter_async_context(Listener(application, sockets))
        watch = asyncio.create_task(LagWatch(logs.stall_line).run())
        stack.callback(watch.cancel)
        yield Running(url=listener.url, service=service, workers=backends.workers, off=backends.off)


def _service(loaded: Loaded, backends: Backends, logs: Logs) -> Service:
    """What answers calls by a configuration.  Called at the start and for every new configuration."""
    return Service(compile_policy(loaded.config), backends.by_name, backends.off, logs.attempt_line)
