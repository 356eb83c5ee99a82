"""The fake upstream: a raw protocol that answers with canned bytes.  `python -m bench.upstream PORT`."""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

from bench.answers import LOADS, Canned, canned

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_MODEL = re.compile(rb'"model": ?"([a-z-]+)"')
_STREAM = re.compile(rb'"stream": ?true')


class Upstream(asyncio.Protocol):
    """One connection.  Just enough HTTP/1.1: requests with a Content-Length, one after the other."""

    def __init__(self, replies: dict[tuple[bytes, bool], Canned]) -> None:
        self._replies = replies
        self._buffer = b""
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer = data = self._buffer + data
        head_end = data.find(b"\r\n\r\n")
        if head_end < 0:
            return
        length = _LENGTH.search(data, 0, head_end)
        if length is None or len(data) < head_end + 4 + int(length[1]):
            return
        self._buffer = b""
        self._answer(data)

    def _answer(self, request: bytes) -> None:
        model = _MODEL.search(request)
        if model is None:
            self._transport.abort()
            return
        reply = self._replies[model[1], _STREAM.search(request) is not None]
        if reply.gap_s:
            self._paced(reply, 0, asyncio.get_running_loop().time())
            return
        for piece in reply.writes:
            self._transport.write(piece)

    def _paced(self, reply: Canned, at: int, started_s: float) -> None:
        """Write piece `at`, and the next when its time comes."""
        self._transport.write(reply.writes[at])
        if at + 1 < len(reply.writes):
            due_s = started_s + (at + 1) * reply.gap_s
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(due_s, self._paced, reply, at + 1, started_s)


async def main(port: int) -> None:
    """Serve until killed."""
    replies = {
        (load.name.encode(), stream): canned(load.name, stream=stream)
        for load in LOADS
        for stream in (True, False)
    }
    server = await asyncio.get_running_loop().create_server(
        lambda: Upstream(replies), "127.0.0.1", port, backlog=1024
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
