"""Writing a reply to the socket, well or, where a fault asks for it, badly."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

import msgspec
from aiohttp import web

from hybrid_router.api.workers_ai.refusal import Refusal, body_of
from hybrid_router.emulator.calls import SeenCall
from hybrid_router.emulator.fault import Fault
from hybrid_router.emulator.settings import Settings

_MALFORMED = b'data: {"response":"unfin\n\n'
_DONE = b"data: [DONE]\n\n"
_PAGE = "<!DOCTYPE html><html><head><title>Bad gateway</title></head><body><h1>Bad gateway</h1></body></html>"
# A reset forgets what the kernel has not handed over yet; on loopback this is long enough for that.
_FLUSH_S = 0.02
_PIECE_BYTES = 4096


def _reset(request: web.Request) -> None:
    """Cut the connection with a RST instead of a FIN."""
    transport = request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Delivery:
    """One reply.  `seen` is told what was really sent; `failed` writes an error as the cloud does."""

    def __init__(
        self,
        request: web.Request,
        fault: Fault,
        seen: SeenCall,
        settings: Settings,
        failed: Callable[[Refusal], Any] = body_of,
    ) -> None:
        self._request = request
        self._fault = fault
        self._seen = seen
        self._settings = settings
        self._failed = failed
        self._response = web.StreamResponse()

    @property
    def fault(self) -> Fault:
        """What shall go wrong."""
        return self._fault

    def with_fault(self, fault: Fault) -> Delivery:
        """The same reply, with another thing to go wrong."""
        return Delivery(self._request, fault, self._seen, self._settings, self._failed)

    async def instead(self) -> web.StreamResponse | None:
        """Act out what a fault puts in the answer's place; None if there is to be an answer.

        Raises:
            Refusal: the fault is an error of the API.
        """
        fault = self._fault
        if fault.delay_headers_s:
            await asyncio.sleep(fault.delay_headers_s)
        if fault.hang == "before_headers":
            await self._hang()
            return self._response
        if fault.redirect:
            return web.Response(status=302, headers={"location": fault.redirect})
        if fault.html:
            return web.Response(status=fault.status or 200, text=_PAGE, content_type="text/html")
        if fault.refuses:
            after = {"retry-after": fault.retry_after} if fault.retry_after else {}
            raise Refusal(fault.code or 8005, fault.message, status=fault.status, headers=after)
        return None

    async def document(self, document: Any) -> web.StreamResponse:
        """Send a plain reply."""
        return await self.whole(_encoded(document), "application/json")

    async def whole(self, content: bytes, media_type: str, *, in_pieces: bool = False) -> web.StreamResponse:
        """Send a whole body of any type.

        A fault acts in its middle; `error_after` puts a failed envelope in its place.  `in_pieces`: nobody
        knows the length beforehand, as of sound that is sent while it is made.
        """
        fault = self._fault
        if fault.error_after is not None:
            content, media_type, in_pieces = (
                _encoded(self._failed(_in_band(fault))),
                "application/json",
                False,
            )
        cut = fault.stall_after is not None or fault.cut_after is not None
        halved = cut or fault.close_after is not None or fault.malformed_after is not None
        sent = content[: len(content) // 2] if halved else content
        promised = {} if in_pieces else {"content-length": str(len(content if cut else sent))}
        await self._open(media_type, promised)
        if fault.pings:
            await self._hang()
            return self._response
        await self._pieces(sent, _PIECE_BYTES if in_pieces else len(sent))
        if fault.stall_after is not None:
            await self._hang()
        elif fault.cut_after is not None:
            await self._cut()
        return self._response

    async def stream(self, documents: AsyncGenerator[Any]) -> web.StreamResponse:
        """Send `documents` as server-sent events, and `[DONE]`.  What `documents` raises is passed on."""
        return await self.frames(self._framed(documents), self._failed_event)

    async def frames(
        self, frames: AsyncGenerator[bytes], failed: Callable[[Fault], bytes]
    ) -> web.StreamResponse:
        """Send events that are written already; `failed` writes the one that a fault ends them with."""
        await self._open("text/event-stream", {"cache-control": "no-cache"})
        if self._fault.pings:
            await self._ping()
            return self._response
        async with aclosing(frames):
            async for frame in frames:
                if not await self._event(frame, failed):
                    return self._response
        await self._response.write_eof()
        return self._response

    def broken(self) -> web.StreamResponse:
        """End a stream whose source broke: the format has no event for that, so the connection is cut."""
        self._seen.outcome = "cut"
        _reset(self._request)
        return self._response

    async def _open(self, content_type: str, headers: Mapping[str, str]) -> None:
        """Send the headers, and what a fault puts between them and the first byte."""
        self._response.headers.update(headers)
        self._response.content_type = content_type
        await self._response.prepare(self._request)
        if self._fault.hang == "after_headers":
            await self._hang()
        if self._fault.delay_first_s:
            await asyncio.sleep(self._fault.delay_first_s)

    async def _framed(self, documents: AsyncGenerator[Any]) -> AsyncGenerator[bytes]:
        async with aclosing(documents):
            async for document in documents:
                yield _event(document)
        for _ in range(2 if self._fault.doubled_done else 1):
            yield _DONE

    def _failed_event(self, fault: Fault) -> bytes:
        return _event(self._failed(_in_band(fault)))

    async def _event(self, frame: bytes, failed: Callable[[Fault], bytes]) -> bool:
        """Send one event, or what a fault wants in this place; False: the reply has ended."""
        fault, place = self._fault, self._seen.events_sent
        if place == fault.malformed_after:
            await self._write(_MALFORMED)
        if place == fault.error_after:
            await self._write(failed(fault))
        if place == fault.stall_after:
            await self._hang()
        elif place == fault.cut_after:
            await self._cut()
        elif place not in (fault.close_after, fault.error_after):
            await self._write(frame)
            self._seen.events_sent += 1
            return True
        return False

    async def _write(self, chunk: bytes) -> None:
        if not self._fault.bytewise:
            await self._response.write(chunk)
            return
        for place in range(len(chunk)):
            await self._response.write(chunk[place : place + 1])
            await asyncio.sleep(self._fault.drip_s)

    async def _pieces(self, content: bytes, size_bytes: int) -> None:
        """Send `content` in pieces of that size."""
        for place in range(0, len(content), max(1, size_bytes)):
            await self._write(content[place : place + size_bytes])

    async def _ping(self) -> None:
        """Comments until the client has enough of them."""
        for _ in range(max(1, int(self._settings.hang_limit_s / self._settings.ping_s))):
            await self._response.write(b": ping\n\n")
            await asyncio.sleep(self._settings.ping_s)
        await self._cut()

    async def _hang(self) -> None:
        """Say nothing until the client goes away (which cancels this), or the limit is reached."""
        await asyncio.sleep(self._settings.hang_limit_s)
        await self._cut()

    async def _cut(self) -> None:
        """Reset the connection, after what was written has arrived."""
        await asyncio.sleep(_FLUSH_S)
        self._seen.outcome = "cut"
        _reset(self._request)


def _in_band(fault: Fault) -> Refusal:
    """The error that a reply with status 200 carries."""
    return Refusal(fault.code or 8005, fault.message)


def _event(document: Any) -> bytes:
    return b"data: " + _encoded(document) + b"\n\n"


def _encoded(document: Any) -> bytes:
    return msgspec.json.encode(document)
