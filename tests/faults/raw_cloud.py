"""A cloud that sends exactly the bytes it is told to, and the router.yaml of a service that has no model."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from router_policy import CLOUD_MODEL

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CONFIG = """\
server: {{ listen: 127.0.0.1:0 }}
timeouts:
  {{ connect: {connect}, first_token: {first_token}, between_tokens: {between_tokens}, total: {total} }}
backends:
  cloudflare:
    type: workers_ai
    minute_limits: false
    base_url: {url}
    default_max_tokens: 2048
    neurons: {neurons}
    account_id: {{ env: CLOUDFLARE_ACCOUNT_ID }}
    token: {{ env: CLOUDFLARE_API_TOKEN }}
  spare:
    type: workers_ai
    minute_limits: false
    base_url: {spare_url}
    default_max_tokens: 2048
    neurons: {{ daily: 1000000 }}
    account_id: {{ env: CLOUDFLARE_ACCOUNT_ID }}
    token: {{ env: CLOUDFLARE_API_TOKEN }}
aliases:
  cloud-only: {{ {treatment}, try: cloudflare/{model} }}
  cloud-then-spare: {{ {treatment}, try: [cloudflare/{model}, spare/{model}] }}
  spare-only: {{ {treatment}, try: spare/{model} }}
"""


def clouds_policy(
    url: str,
    spare_url: str,
    *,
    treatment: str = "retries: 0, on_break: error",
    connect: str = "2s",
    first_token: str = "5s",  # noqa: S107 - a duration
    between_tokens: str = "5s",
    total: str = "30s",
    neurons: str = "{ daily: 1000000 }",
) -> str:
    """A router.yaml with two clouds and nothing on this machine: it starts at once."""
    return CONFIG.format(
        url=url,
        spare_url=spare_url,
        treatment=treatment,
        connect=connect,
        first_token=first_token,
        between_tokens=between_tokens,
        total=total,
        neurons=neurons,
        model=CLOUD_MODEL,
    )


Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Place:
    """A port that is kept for one test's cloud after the other."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(128)

    @property
    def port(self) -> int:
        """Where it is."""
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        """The base URL of a cloud here."""
        return f"http://127.0.0.1:{self.port}/client/v4"

    @asynccontextmanager
    async def served(self, speak: Speak) -> AsyncIterator[None]:
        """Let `speak` have every connection, which is closed when it returns."""
        running: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            running.add(task)
            try:
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    await speak(reader, writer)
            finally:
                running.discard(task)
                writer.close()

        server = await asyncio.start_server(connected, sock=self._socket.dup())
        try:
            yield
        finally:
            server.close()
            for task in list(running):
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()


async def request(reader: asyncio.StreamReader) -> bytes:
    """A whole request: head and body.

    Raises:
        IncompleteReadError: none came.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return head + await reader.readexactly(int(length[1]) if length else 0)


def reply(*pieces: bytes, kind: str = "text/event-stream", more: str = "", status: str = "200 OK") -> Speak:
    """Send a head and then these pieces, each as a write of its own, and close.

    The head promises no length, so that the end of the connection is the end of the body.
    """

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}Connection: close\r\n\r\n".encode())
        for piece in pieces:
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(piece)
        await writer.drain()

    return speak
