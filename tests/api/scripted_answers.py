"""A stand-in for the service, and raw HTTP: what the tests of this room share."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
from open_gate import OpenGate

from hybrid_router.api.answers import Ended, OnCall, OnRefusal, pass_over, tell_nobody
from hybrid_router.api.generation import Fronts
from hybrid_router.api.keep_alive import LATER, Later
from hybrid_router.api.runner import Listener
from hybrid_router.api.server import create_application
from hybrid_router.config.schema import Server
from hybrid_router.core.backend import IDLE, Backend, Load
from hybrid_router.core.call import Call, Feature, Operation
from hybrid_router.core.errors import ModelNotFound, RouterError
from hybrid_router.core.event import Batch, Finish, Text, Usage
from hybrid_router.core.step import Plan, Step, Timeouts
from hybrid_router.dispatch import engine
from hybrid_router.dispatch.record import Attempt, Record

HELLO: list[Batch | RouterError] = [
    [Text("Hel")],
    [Text("lo "), Text("wörld")],
    [Finish("stop"), Usage(7, 3, cached_tokens=2)],
]
CHAT = {"model": "fast", "messages": [{"role": "user", "content": "hi"}]}
TIMEOUTS = Timeouts(connect_s=5, load_s=5, first_token_s=5, between_tokens_s=5, total_s=10)


class ScriptedAnswers:
    """Says a script for every call, and notes what happens to it.

    A script's batches are said, its errors raised; a gate is waited for.
    """

    aliases: tuple[str, ...] = ("fast", "org/model")

    def __init__(self, script: list[Any] | None = None) -> None:
        self.script: list[Any] = HELLO if script is None else script
        self.refusal: RouterError | None = None
        self.why: dict[str, str] = {}
        self.calls: list[Call] = []
        self.plan = Plan(total_s=10.0)
        self.explained: list[Call] = []
        self.decisions: dict[tuple[str, str], bytes] = {}
        self.running = asyncio.Event()
        self.closed = asyncio.Event()
        self.steps_done = 0

    def decide(self, call: Call) -> Record:
        """Every alias has one step."""
        self.calls.append(call)
        if self.refusal is not None:
            raise self.refusal
        if call.alias not in self.aliases:
            raise ModelNotFound(f"there is no model {call.alias!r}", param="model")
        return Record(id="dec_1", plan=Plan(total_s=10.0))

    async def run(self, call: Call, record: Record) -> AsyncGenerator[Batch]:
        """Say the script."""
        record.attempts.append(Attempt(backend="scripted", model="parrot", started_s=0.0))
        record.ignored = tuple(sorted(call.extra))
        try:
            self.running.set()
            for item in self.script:
                if isinstance(item, RouterError):
                    raise item
                if isinstance(item, asyncio.Event):
                    await item.wait()
                    continue
                yield item
                self.steps_done += 1
        finally:
            self.closed.set()

    def explain(self, call: Call) -> Plan:
        """As the test says."""
        self.explained.append(call)
        if call.alias not in self.aliases:
            raise ModelNotFound(f"there is no model {call.alias!r}", param="model")
        return self.plan

    async def decision(self, decision_id: str, principal: str) -> bytes | None:
        """One of those that the test gave."""
        return self.decisions.get((decision_id, principal))

    def unservable(self) -> dict[str, str]:
        """As the test says."""
        return self.why


class ScriptedBackend:
    """A backend that says a script, for tests through the real engine."""

    local = True
    extra_fields: frozenset[str] = frozenset({"user"})

    def __init__(self, script: list[Batch | RouterError]) -> None:
        self.script = script

    def operations(self, model: str) -> frozenset[Operation]:
        """Everything."""
        return frozenset(Operation)

    def features(self, model: str) -> frozenset[Feature]:
        """Everything."""
        return frozenset(Feature)

    def down(self, model: str) -> str | None:
        """Never."""
        return None

    def not_installed(self, model: str) -> bool:
        return False

    def continues(self, model: str, call: Call) -> bool:
        """Its scripts begin at the beginning."""
        return False

    def context(self, model: str) -> int | None:
        """No limit."""
        return None

    def load(self, model: str) -> Load:
        """Never busy."""
        return IDLE

    async def run(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        """Say the script."""
        for item in self.script:
            if isinstance(item, RouterError):
                raise item
            yield item

    async def close(self) -> None:
        """Nothing to let go of."""


class EngineAnswers(ScriptedAnswers):
    """Runs calls through the real engine, over backends tried in order."""

    def __init__(self, backends: Mapping[str, Backend]) -> None:
        super().__init__()
        self._backends = backends

    def decide(self, call: Call) -> Record:
        """Every backend is a step."""
        steps = tuple(Step(backend=b, model="m", timeouts=TIMEOUTS, because="try") for b in self._backends)
        return Record(id="dec_1", plan=Plan(steps=steps, total_s=10.0))

    async def run(self, call: Call, record: Record) -> AsyncGenerator[Batch]:
        """As the service does."""
        gate = OpenGate(self._backends, lambda attempt: None, record=record)
        async with aclosing(engine.run(call, record, gate)) as batches:
            async for batch in batches:
                yield batch


@dataclass
class Told:
    """What `on_call` heard."""

    ended: list[Ended] = field(default_factory=list)
    records: list[Record | None] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, call: Call, record: Record | None, ended: Ended) -> None:
        self.ended.append(ended)
        self.records.append(record)
        self.heard.set()


class HandSleep:
    """Waits until the test lets it."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[Callable[[], None]] = asyncio.Queue()

    def __call__(self, seconds: float, then: Callable[[], None]) -> HandSleep:
        """Between two signs."""
        assert seconds == 10.0
        self.asked.put_nowait(then)
        return self

    def cancel(self) -> None:
        """The test lets no more pass."""

    async def passes(self) -> None:
        """Ten seconds go by."""
        then = await self.asked.get()
        then()


@asynccontextmanager
async def listening(
    answers: ScriptedAnswers,
    server: Server | None = None,
    on_call: OnCall = tell_nobody,
    on_refusal: OnRefusal = pass_over,
    *,
    fronts: Fronts | None = None,
    sleep: Later | None = None,
) -> AsyncGenerator[Listener]:
    """Our own runner on a free port; `sleep`: how it waits between signs of life, if not by the clock."""
    server = Server(listen="127.0.0.1:0") if server is None else server
    application = create_application(
        answers, server, "1.2.3", fronts=fronts, on_call=on_call, on_refusal=on_refusal
    )
    if sleep is not None:
        application[LATER] = sleep
    async with Listener(application) as listener:
        yield listener


@dataclass
class Reply:
    """A parsed response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object; all four keys must be there."""
        error: dict[str, Any] = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error

    @property
    def events(self) -> list[Any]:
        """The `data:` documents of a stream; `[DONE]` as a text."""
        lines = self.body.decode().split("\n\n")
        assert lines[-1] == ""
        assert all(line.startswith("data: ") for line in lines[:-1])
        return [line[6:] if line == "data: [DONE]" else msgspec.json.decode(line[6:]) for line in lines[:-1]]


def request_bytes(
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | list[tuple[str, str]] = {},  # noqa: B006 -- never changed
    *,
    host: str | None = "localhost",
    content_type: str | None = "application/json",
) -> bytes:
    """A request that asks for the connection's end after its response."""
    lines = [f"{method} {path} HTTP/1.1", "Connection: close"]
    if host is not None:
        lines.append(f"Host: {host}")
    if body and content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    pairs = headers if isinstance(headers, list) else list(headers.items())
    lines += [f"{name}: {value}" for name, value in pairs]
    if not any(name.lower() in {"content-length", "transfer-encoding"} for name, _ in pairs):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def parsed(raw: bytes) -> Reply:
    """Read one response; a second one is an error."""
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = _dechunked(body)
    return Reply(int(status.split()[1]), headers, body)


def _dechunked(body: bytes) -> bytes:
    """A chunked body's content; it must be whole."""
    out = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if int(size, 16) == 0:
            assert body == b"\r\n"
            return out
        out += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]


@asynccontextmanager
async def connected(port: int) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection, closed in the end whatever became of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def exchange(port: int, raw: bytes) -> Reply:
    """Send bytes, read to the end."""
    async with connected(port) as (reader, writer):
        writer.write(raw)
        return parsed(await reader.read())


async def post(port: int, path: str, body: Any, headers: Mapping[str, str] = {}) -> Reply:
    """POST a JSON document, or bytes as they are."""
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return await exchange(port, request_bytes("POST", path, raw, headers))


async def get(port: int, path: str, headers: Mapping[str, str] = {}, method: str = "GET") -> Reply:
    """GET, or another method without a body."""
    return await exchange(port, request_bytes(method, path, b"", headers))


def reset(writer: asyncio.StreamWriter) -> None:
    """Close as a killed client does: with a RST."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
