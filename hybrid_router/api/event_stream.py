"""A response in pieces, mostly server-sent events, whose writes cannot hang."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import cast

from aiohttp import web
from aiohttp.http import StreamWriter

EVENTS_TYPE = "text/event-stream; charset=utf-8"
_RESET = struct.pack("ii", 1, 0)  # on, for no time: what is closed is reset


class ClientStalled(ConnectionError):
    """The client has read nothing for `client_stall`."""


class EventStream(web.StreamResponse):
    """Events to one client.

    A write returns at once while the socket's buffers have room.  Once they are full the next write
    waits for the client, `stall_s` at most: so a client that does not read holds back the backend, and
    costs no more memory than those buffers.
    """

    # The head goes out with the first events, in one packet (aiohttp's own `Response` does the same).
    _send_headers_immediately = False

    def __init__(
        self,
        request: web.Request,
        headers: Mapping[str, str],
        stall_s: float,
        content_type: str = EVENTS_TYPE,
    ) -> None:
        super().__init__(
            headers={
                "content-type": content_type,
                "x-accel-buffering": "no",  # nginx would hold events back
                **headers,
            }
        )
        self._request = request
        self._stall_s = stall_s

    async def send(self, events: bytes) -> None:
        """Write, and wait only if the client is behind.

        Raises:
            ClientStalled: it stayed behind.
            ConnectionError: it is gone.
        """
        writer = cast(StreamWriter, self._payload_writer)
        await writer.write(events, drain=False)
        if self._request.protocol.writing_paused:
            async with _Patience(self._stall_s):
                await writer.drain()

    async def finish(self, events: bytes) -> None:
        """Write the last events and the end of the body, in one packet.  Raises as `send` does."""
        async with _Patience(self._stall_s):
            await self.write_eof(events)

    def abort(self) -> None:
        """Drop the connection with all that was not sent; the client gets a reset.

        A mere end would look like that of a whole body where its length was not told (HTTP/1.0).
        """
        transport = self._request.transport
        if transport is None:
            return
        sock = transport.get_extra_info("socket")
        with suppress(OSError):  # closed already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()


class _Patience:
    """`asyncio.timeout` that says who was waited for."""

    def __init__(self, wait_s: float) -> None:
        self._timeout = asyncio.timeout(wait_s)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *failure: object) -> None:
        try:
            await self._timeout.__aexit__(*failure)  # type: ignore[arg-type]
        except TimeoutError:
            raise ClientStalled("the client reads nothing") from None
