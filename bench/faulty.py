"""Clouds that fail as they are told, the router before them, and a client: all that the fault parts need.

Clouds and client are in one process, so that one clock times both ends of the router.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Literal, TypeAlias, cast

import aiohttp

from bench.processes import BenchError, Child, free_port, python

Mood: TypeAlias = Literal["answer", "fail", "silence"]

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKS = (
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "yes"}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
)
_STREAM = (
    b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in _CHUNKS) + b"data: [DONE]\n\n"
)
_NUMBER = re.compile(rb"call number (\d+)")
_CALM_S = 60.0


def _reply(status: str, kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


_REPLIES: dict[Mood, bytes] = {
    "answer": _reply("200 OK", "text/event-stream", _STREAM),
    "fail": _reply("503 Service Unavailable", "application/json", b"{}"),
    "silence": b"",
}


class Cloud:
    """A cloud on a port of its own.

    Attributes:
        mood: asked at each call, how it goes.
        arrivals_s: when each request had arrived, by `perf_counter`.
        callers: the numbers of the calls that it was sent.
    """

    def __init__(self, mood: Callable[[], Mood]) -> None:
        self.mood = mood
        self.arrivals_s: list[float] = []
        self.callers: set[bytes] = set()
        self.port = 0

    def forget(self) -> None:
        """Count from here on."""
        self.arrivals_s.clear()
        self.callers.clear()

    def asked(self, request: bytes) -> bytes:
        """What it answers."""
        self.arrivals_s.append(perf_counter())
        self.callers.update(_NUMBER.findall(request))
        return _REPLIES[self.mood()]

    async def serve(self, stack: AsyncExitStack) -> None:
        """Serve until the stack is left."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        stack.callback(server.close)
        self.port = server.sockets[0].getsockname()[1]


class _Connection(asyncio.Protocol):
    """Just enough HTTP/1.1: requests with a Content-Length, one after the other."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._held += data
        head_end = self._held.find(b"\r\n\r\n")
        length = _LENGTH.search(self._held)
        if head_end < 0 or length is None or len(self._held) < head_end + 4 + int(length[1]):
            return
        asked, self._held = self._held, b""
        self._transport.write(self._cloud.asked(asked))


class Client:
    """Calls the router."""

    def __init__(self, http: aiohttp.ClientSession, port: int) -> None:
        self._http = http
        self._numbers = itertools.count()
        self._url = f"http://127.0.0.1:{port}/v1/chat/completions"

    async def ask(self, alias: str) -> tuple[str, float]:
        """One streamed call: who answered (the error's code, if nobody), and the seconds that it took."""
        said = f"call number {next(self._numbers)}"
        body = {"model": alias, "messages": [{"role": "user", "content": said}], "stream": True}
        began_s = perf_counter()
        async with self._http.post(self._url, json=body) as reply:
            text = await reply.read()
        took_s = perf_counter() - began_s
        if reply.status == 200 and text.endswith(b"data: [DONE]\n\n"):  # noqa: PLR2004
            return reply.headers["x-router-backend"], took_s
        found = re.search(rb'"code":"([a-z_]+)"', text)
        if found is None:
            raise BenchError(f"an answer that is none: {reply.status} {text[:200]!r}")
        return found[1].decode(), took_s


@asynccontextmanager
async def routed(
    clouds: dict[str, Cloud], aliases: str, *, timeouts: str, closed: tuple[str, ...] = ()
) -> AsyncIterator[Client]:
    """The router before these clouds, and before some that are not there.

    Raises:
        BenchError: it does not start.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="bench-")))
        for cloud in clouds.values():
            await cloud.serve(stack)
        ports = {name: cloud.port for name, cloud in clouds.items()} | {name: free_port() for name in closed}
        port = free_port()
        (folder / "token").write_text("bench-token-0123456789abcdef")
        (folder / "token").chmod(0o600)
        config = folder / "router.yaml"
        config.write_text(_config(port, ports, aliases, timeouts))
        command = python("hybrid_router", "serve", "--config", config, "--log-format", "json")
        child = stack.enter_context(Child(command, cores=os.sched_getaffinity(0), stderr=folder / "log"))
        await asyncio.to_thread(child.wait_for, port)
        http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_CALM_S))
        yield Client(await stack.enter_async_context(http), port)


def _config(port: int, ports: dict[str, int], aliases: str, timeouts: str) -> str:
    backends = "".join(
        f"  {name}:\n    type: workers_ai\n    account_id: {'0' * 32}\n    token: {{ file: token }}\n"
        f"    minute_limits: false\n    neurons: {{ daily: 100000000 }}\n    base_url: http://127.0.0.1:{at}/client/v4\n"
        for name, at in ports.items()
    )
    return (
        f"server: {{ listen: 127.0.0.1:{port} }}\ntimeouts: {timeouts}\n"
        f"backends:\n{backends}aliases:\n{aliases}"
    )
