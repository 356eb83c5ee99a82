"""Signs of life for a client that waits: something between it and us may cut a connection that is silent.

They are sent only while nothing else is, and only once an answer has taken long: until then an error has
its own status.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from aiohttp import web

from hybrid_router.api import responses
from hybrid_router.api.event_stream import ClientStalled, EventStream
from hybrid_router.api.exchange import EXCHANGE
from hybrid_router.api.generation import CURRENT
from hybrid_router.core.errors import RouterError

EVERY_S = 10.0
_PIECE_BYTES = 64 * 1024
SPACE = b" "  # JSON may begin with it
PING = b": ping\n\n"  # a comment, which readers of events pass over


class Timer(Protocol):
    """What can still be called off."""

    def cancel(self) -> None:
        """Do not."""
        ...


Later: TypeAlias = Callable[[float, Callable[[], None]], Timer]
LATER: Final[web.AppKey[Later]] = web.AppKey("keep_alive_later", object)  # type: ignore[arg-type]


async def finished(sent: EventStream, body: bytes) -> EventStream:
    """Send the rest piece by piece: a client may be slow as long as it reads."""
    try:
        for start in range(0, len(body), _PIECE_BYTES):
            await sent.send(body[start : start + _PIECE_BYTES])
        await sent.finish(b"")
    except ConnectionError:
        sent.abort()
    return sent


class Waiting:
    """From a call's beginning to its first event.  Once it is over, whoever waited writes to `over()`.

    Most calls are answered before the first sign is due: until then there is a timer and no task.
    """

    def __init__(self, request: web.Request, sign: bytes, content_type: str) -> None:
        """Args: sign: what is sent; empty: nothing, the answer's form has no room for it."""
        self._request = request
        self._sign = sign
        self._content_type = content_type
        self._timer: Timer | None = None
        self._task: asyncio.Task[None] | None = None
        self._sent: EventStream | None = None

    async def __aenter__(self) -> Waiting:
        if self._sign:
            self._wait()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.over()

    async def over(self) -> EventStream | None:
        """Stop; the response that has begun with signs, if any were given."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.result()  # what nobody expected
        return self._sent

    async def failed(
        self, failure: RouterError, written: Callable[[bytes], bytes] | None = None
    ) -> EventStream:
        """Tell an error where signs were given: its status is out, so it is the body.

        Args:
            written: the error's document as the body has it; None: as it is.

        Raises:
            RouterError: `failure`, where nothing was sent: it has its own status.
        """
        sent = await self.over()
        if sent is None:
            raise failure
        sent.force_close()
        told = self._request[EXCHANGE].failure(failure)
        return await finished(sent, told if written is None else written(told))

    def _wait(self) -> None:
        later = self._request.app.get(LATER, asyncio.get_running_loop().call_later)
        self._timer = later(EVERY_S, self._give_sign_soon)

    def _give_sign_soon(self) -> None:
        self._task = asyncio.create_task(self._give_sign())

    async def _give_sign(self) -> None:
        sent = self._sent or await self._begun()
        try:
            await sent.send(self._sign)
        except ClientStalled:
            sent.abort()
        except ConnectionError:
            pass  # it has left: the call is cancelled by whoever sees that
        else:
            self._wait()

    async def _begun(self) -> EventStream:
        """The response, its head sent with what is known now."""
        exchange = self._request[EXCHANGE]
        known = {} if exchange.record is None else responses.decision_headers(exchange.record)
        stall_s = self._request.app[CURRENT].generation.server.client_stall
        sent = EventStream(self._request, known, stall_s, self._content_type)
        exchange.begun = True
        await sent.prepare(self._request)
        self._sent = sent
        return sent
