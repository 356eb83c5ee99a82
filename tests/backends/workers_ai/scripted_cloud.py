"""A scripted server on a raw socket, and the backend in front of it."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from functools import cache
from typing import Any

from hybrid_router.backends.workers_ai import WorkersAI
from hybrid_router.catalogue import workers_ai as catalogue
from hybrid_router.config.backend_schema import SecretSource
from hybrid_router.config.cloud_schema import WorkersAIBackend
from hybrid_router.core.call import Call, Message, Operation
from hybrid_router.core.event import Batch, Event
from hybrid_router.core.secret import Secret
from hybrid_router.core.step import Step, Timeouts

ACCOUNT = "0123456789abcdef" * 2
TOKEN = "cfut_canary-4f1d9e"
MODEL = "@cf/meta/llama-3.2-1b-instruct"
RESET = "reset"  # instead of bytes: break the connection off
HOLD = "hold"  # instead of bytes: wait until the client has gone
PAUSE = "pause"  # instead of bytes: wait for `go_on`
CLOSE = "close"  # instead of bytes: close the connection in good order

Reply = list[bytes | str]


class Upstream:
    """Answers each request with the next of `replies` (the last one again and again).

    `requests` holds what came; see `received`.
    """

    def __init__(self, replies: list[Reply]) -> None:
        self.replies = replies
        self.port = 0
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.accepted_count = 0
        self.gone = asyncio.Event()
        self.holding = asyncio.Event()
        self.go_on = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept alive until a reply ends it."""
        self.accepted_count += 1
        try:
            while await self._one(reader, writer):
                pass
        finally:
            self.gone.set()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await received(reader)
        reply = self.replies[min(len(self.requests), len(self.replies) - 1)]
        self.requests.append(request)
        for piece in reply:
            if piece == HOLD:
                self.holding.set()
                await reader.read()
                return False
            if piece == RESET:
                sock: socket.socket = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return False
            if piece == PAUSE:
                await self.go_on.wait()
                continue
            if piece == CLOSE:
                return False
            assert isinstance(piece, bytes)
            writer.write(piece)
            await writer.drain()
        return True


async def received(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], Any]:
    """A request: its line, headers by lower-case name, and body, parsed if it is JSON."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    line, *fields = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)}
    body = await reader.readexactly(int(headers["content-length"]))
    is_json = headers.get("content-type") == "application/json"
    return line, headers, json.loads(body) if is_json else body


def head(content_type: str = "text/event-stream", status: str = "200 OK", extra: str = "") -> bytes:
    """The head of a chunked reply."""
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{extra}Transfer-Encoding: chunked\r\n\r\n"
    ).encode()


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


END = b"0\r\n\r\n"


def events(*payloads: object) -> bytes:
    """Payloads as event stream: bytes as they are, all else as JSON."""
    return b"".join(
        b"data: " + (p if isinstance(p, bytes) else json.dumps(p).encode()) + b"\n\n" for p in payloads
    )


def stream(*payloads: object) -> Reply:
    """A whole streamed reply, one chunk for all."""
    return [head(), chunk(events(*payloads)), END]


def plain(document: object, status: str = "200 OK", extra: str = "") -> Reply:
    """A plain JSON reply; bytes go out as they are."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    fields = f"Content-Type: application/json\r\n{extra}Content-Length: {len(body)}"
    return [f"HTTP/1.1 {status}\r\n{fields}\r\n\r\n".encode() + body]


def file(content: bytes, content_type: str, size_bytes: int | None = None) -> Reply:
    """A plain reply that is no JSON; `size_bytes` other than it has: it is cut off."""
    length = len(content) if size_bytes is None else size_bytes
    fields = f"Content-Type: {content_type}\r\nContent-Length: {length}"
    return [
        f"HTTP/1.1 200 OK\r\n{fields}\r\n\r\n".encode() + content,
        *([CLOSE] if length > len(content) else []),
    ]


def piece(content: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """One chunk of the chat-completion family; `delta` and `usage` may be given."""
    delta = more.pop("delta", {} if content is None else {"content": content})
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def chat(text: str = "hi", **more: Any) -> Call:
    """A chat call of one user message."""
    return Call(
        id="c1", operation=Operation.CHAT, alias="a", messages=(Message(role="user", content=text),), **more
    )


def complete(*prompts: str, **more: Any) -> Call:
    """A completion call."""
    return Call(id="c1", operation=Operation.COMPLETE, alias="a", prompts=prompts, **more)


def a_step(model: str = MODEL, connect_s: float = 5.0) -> Step:
    """A step with long timeouts."""
    timeouts = Timeouts(connect_s=connect_s, load_s=5, first_token_s=5, between_tokens_s=5, total_s=9)
    return Step(backend="cloud", model=model, timeouts=timeouts, because="a test")


async def batches(backend: WorkersAI, call: Call, model: str = MODEL) -> list[Batch]:
    """All batches of an answer."""
    async with aclosing(backend.run(call, a_step(model))) as running:
        return [batch async for batch in running]


async def answer(backend: WorkersAI, call: Call, model: str = MODEL) -> list[Event]:
    """All events of an answer."""
    return [event for batch in await batches(backend, call, model) for event in batch]


@cache
def models() -> dict[str, catalogue.Model]:
    """The catalogue."""
    return catalogue.load().by_id()


def make(
    base_url: str,
    *,
    account: str = ACCOUNT,
    token: str = TOKEN,
    prefills: frozenset[str] = frozenset(),
    **config: Any,
) -> WorkersAI:
    """A backend for an address."""
    settings = WorkersAIBackend(account_id=account, token=SecretSource(), base_url=base_url, **config)
    return WorkersAI("cloud", settings, account, Secret(token), models(), prefills=prefills)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on a free port.  At the end every connection has ended, as the client has closed its side."""
    tasks: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(one, "127.0.0.1", 0, limit=2**24, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if tasks:
            await asyncio.wait(tasks)


@asynccontextmanager
async def cloud(*replies: Reply, **config: Any) -> AsyncIterator[tuple[WorkersAI, Upstream]]:
    """A backend that asks a scripted server on a free port, and that server."""
    upstream = Upstream(list(replies))
    async with listening(upstream.serve) as upstream.port:
        backend = make(f"http://127.0.0.1:{upstream.port}/client/v4", **config)
        try:
            yield backend, upstream
        finally:
            await backend.close()
