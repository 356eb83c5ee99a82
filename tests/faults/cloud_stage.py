"""A cloud that acts out one fault on a raw socket, and what it looks like when it is well."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from hybrid_router.core.backend import Backend

TOKEN = "canary-token-0ddba11"
SAID = "canary-prompt-7ac0: count to 3"
TEXT = "1 2 3"
WITHIN_S = 5.0
FLUSH_S = 0.02  # a reset forgets what the kernel has not handed over yet
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """What a cloud looks like on the wire.

    Attributes:
        make: the adapter, given the cloud's root (`http://127.0.0.1:PORT`) and a token.
        frames: a good streamed answer to `SAID`, event by event as they are written: its text is `TEXT`.
        begins: which frame brings the first event of the answer.
        whole_from: after so many frames the answer is whole, whatever follows.
        in_band: a frame that tells an error.
        malformed: a frame that nobody can read.
        refused: the body of an error reply with these words.
        harmless: frames that may follow the last one, such as a second `[DONE]`.
        plain: the whole answer in one document, where a stream may be answered so.
        aside: the whole HTTP reply to a request, given the root, that is not the one that is answered by
            the frames, such as the making of a prediction; None: it is that one.
        echoing: frames each of which breaks the answer and repeats the token in a field of its own.
        token_header: how the token arrives, as a line of the head in lower case.
    """

    make: Callable[[str, str], Backend]
    model: str
    frames: tuple[bytes, ...]
    begins: int
    whole_from: int
    in_band: bytes
    refused: Callable[[str], bytes]
    malformed: bytes = b'data: {"unfin\n\n'
    harmless: tuple[bytes, ...] = ()
    plain: bytes | None = None
    aside: Callable[[str, bytes], bytes | None] = field(default=lambda root, request: None)
    echoing: tuple[bytes, ...] = ()
    token_header: str = f"authorization: bearer {TOKEN}"


Act = Callable[["Stage"], Awaitable[None]]


class Stage:
    """One connection at which a fault is acted out."""

    def __init__(
        self, cloud: Cloud, played: Played, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.cloud = cloud
        self._played = played
        self._writer = writer
        self._reader = reader

    async def write(self, *pieces: bytes) -> None:
        """Send each in a write of its own."""
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
            await asyncio.sleep(0)

    async def head(self, kind: str = "text/event-stream", status: str = "200 OK", more: str = "") -> None:
        """Send a head; the end of the connection is the end of the body."""
        fields = f"Content-Type: {kind}\r\n{more}Connection: close\r\n\r\n"
        await self.write(f"HTTP/1.1 {status}\r\n{fields}".encode())

    async def hold(self) -> None:
        """Say nothing until the client has gone."""
        self._played.holding.set()
        with suppress(ConnectionError):
            await self._reader.read()
        self._played.gone.set()

    async def pause(self) -> None:
        """Wait until the test goes on."""
        self._played.holding.set()
        await self._played.go_on.wait()

    async def reset(self) -> None:
        """Break off with a RST."""
        await asyncio.sleep(FLUSH_S)
        sock: socket.socket = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


class Played:
    """A fault that is being acted out.

    Attributes:
        root: where.
        requests: what was heard.
        holding: the cloud waits, until the client has gone or `go_on` is set.
        gone: the client has gone.
    """

    def __init__(self) -> None:
        self.root = ""
        self.requests: list[bytes] = []
        self.holding = asyncio.Event()
        self.go_on = asyncio.Event()
        self.gone = asyncio.Event()


@asynccontextmanager
async def playing(cloud: Cloud, act: Act) -> AsyncIterator[Played]:
    """A cloud that does `act` to every call."""
    played, running = Played(), set[asyncio.Task[None]]()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await _serve(cloud, played, act, reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    played.root = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield played
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _serve(
    cloud: Cloud,
    played: Played,
    act: Act,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        request = head + await reader.readexactly(int(length[1]) if length else 0)
        played.requests.append(request)
        aside = cloud.aside(played.root, request)
        if aside is None:
            await act(Stage(cloud, played, reader, writer))
            return
        writer.write(aside)
        await writer.drain()


def answering(*frames: bytes) -> Act:
    """A head and these frames, and a clean end."""

    async def act(stage: Stage) -> None:
        await stage.head()
        await stage.write(*frames)

    return act


def refusing(
    words: str = "no", status: str = "500 Oops", kind: str = "application/json", more: str = ""
) -> Act:
    """An error reply in the cloud's own form, or in another."""

    async def act(stage: Stage) -> None:
        await stage.head(kind, status, more)
        await stage.write(
            stage.cloud.refused(words) if kind == "application/json" else f"<h1>{words}</h1>".encode()
        )

    return act


def at(place: int, then: Callable[[Stage], Awaitable[None]]) -> Act:
    """So many frames, and then."""

    async def act(stage: Stage) -> None:
        await stage.head()
        await stage.write(*stage.cloud.frames[:place])
        await then(stage)

    return act


async def reset(stage: Stage) -> None:
    """Break off."""
    await stage.reset()


async def close(stage: Stage) -> None:
    """End in good order, though nothing is finished."""


async def hold(stage: Stage) -> None:
    """Say nothing more."""
    await stage.hold()


async def malformed(stage: Stage) -> None:
    """Something that is no event of the cloud's."""
    await stage.write(stage.cloud.malformed, *stage.cloud.frames[1:])


async def in_band(stage: Stage) -> None:
    """An error, told as an event."""
    await stage.write(stage.cloud.in_band)


async def silent(stage: Stage) -> None:
    """Not even a head."""
    await stage.hold()


async def pinging(stage: Stage) -> None:
    """Comments, and then nothing."""
    await stage.head()
    await stage.write(b": ping\n\n" * 3)
    await stage.hold()


async def late_head(stage: Stage) -> None:
    """The answer, after a while."""
    await stage.pause()
    await answering(*stage.cloud.frames)(stage)


async def late_first(stage: Stage) -> None:
    """A head, and the answer after a while."""
    await stage.head()
    await stage.pause()
    await stage.write(*stage.cloud.frames)


async def bytewise(stage: Stage) -> None:
    """One byte a write."""
    await stage.head()
    await stage.write(*(bytes([byte]) for byte in b"".join(stage.cloud.frames)))
