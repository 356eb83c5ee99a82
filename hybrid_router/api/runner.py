"""Listening: from the first accept to the last answer."""

from __future__ import annotations

import asyncio
import socket
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from hybrid_router.api.connection import Connection
from hybrid_router.api.exchange import LIFECYCLE, ON_REFUSAL
from hybrid_router.api.generation import CURRENT, Current
from hybrid_router.api.sockets import BACKLOG, bound
from hybrid_router.config.listen import parse_listen

KEEPALIVE_S = 75.0
LINGER_S = 1.0  # reading on after an early refusal, so that the client sees it instead of a reset
_NEAR = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- where a wildcard is reached from here
CLEANUP_S = 5.0  # what cancelled calls may still take


class _Server(web.Server):
    """aiohttp's, but for the connections it makes: each under the waits that hold when it begins."""

    def __init__(self, *positional: Any, current: Current, **options: Any) -> None:
        super().__init__(*positional, **options)
        self._current = current

    def __call__(self) -> Connection:
        server = self._current.generation.server
        return Connection(
            self,
            loop=self._loop,
            header_timeout_s=server.header_timeout,
            client_stall_s=server.client_stall,
            **self._kwargs,
        )


class _Runner(web.AppRunner):
    """aiohttp's, but for the server it makes."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        options: dict[str, Any] = {
            "keepalive_timeout": KEEPALIVE_S,
            "lingering_time": LINGER_S,
            "access_log": None,
            "auto_decompress": False,
            "on_refusal": self.app[ON_REFUSAL],
        }
        return _Server(
            made.request_handler,
            current=self.app[CURRENT],
            request_factory=made.request_factory,
            handler_cancellation=True,  # a client that leaves cancels its call
            **options,
        )


class Listener:
    """Runs an application on its `listen` address, as an async context manager.

    Leaving it drains: nothing new is accepted, idle connections close, calls in flight may finish for
    `drain`, then they are cancelled.
    """

    def __init__(self, application: web.Application, taken: list[socket.socket] | None = None) -> None:
        """`taken`: sockets that `bound` made of the address; without them it is taken at the start."""
        self._listen = application[CURRENT].generation.server.listen
        self._host, _ = parse_listen(self._listen)
        self._taken = taken
        self._application = application
        self._runner = _Runner(application, shutdown_timeout=CLEANUP_S)

    @property
    def port(self) -> int:
        """The port listened on; of use if 0 was asked for."""
        return int(self._runner.addresses[0][1])

    @property
    def url(self) -> str:
        """The address as a client on this machine writes it; one that the guard answers."""
        host = _NEAR.get(self._host, self._host)
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}"

    @property
    def connections(self) -> list[Connection]:
        """Everyone who is connected, and those gone whose clean-up still runs."""
        server = self._runner.server
        return [] if server is None else [c for c in server.connections if isinstance(c, Connection)]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken, or not ours.
        """
        sockets = await bound(self._listen) if self._taken is None else self._taken
        await self._runner.setup()
        for one in sockets:
            await web.SockSite(self._runner, one, backlog=BACKLOG).start()

    async def stop(self) -> None:
        """Drain, then close everything.  Does nothing the second time."""
        self._application[LIFECYCLE].draining = True
        for site in self._runner.sites:
            await site.stop()
        await self._drain(self._application[CURRENT].generation.server.drain)
        await self._runner.cleanup()

    async def _drain(self, wait_s: float) -> None:
        """Wait for the calls in flight, then cancel those that remain."""
        connections = self.connections
        for connection in connections:
            connection.retire()
        tasks = {connection.task for connection in connections if connection.task is not None}
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=wait_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=CLEANUP_S)
