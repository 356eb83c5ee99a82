"""Having a call answered and sending what comes.  Knows no dialect: it is given the encoders.

Nothing is sent before the first batch, so an error before it has its real status.  After it the
client is told in-band, by one event and no end mark.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Protocol, TypeVar

from aiohttp import web

from hybrid_router.api import responses
from hybrid_router.api.answers import UNTOLD, Ended
from hybrid_router.api.event_stream import EVENTS_TYPE, ClientStalled, EventStream
from hybrid_router.api.exchange import EXCHANGE, LIFECYCLE, ON_CALL
from hybrid_router.api.generation import CURRENT, Generation
from hybrid_router.api.keep_alive import Waiting
from hybrid_router.core.call import Call
from hybrid_router.core.errors import BackendTimeout, BackendUnavailable, RouterError, StreamBroken
from hybrid_router.core.event import Batch
from hybrid_router.dispatch.record import Record

T = TypeVar("T")

_STOPPING = "the router is stopping; ask again"


class Chunks(Protocol):
    """A dialect's streamed form of one answer."""

    @property
    def whole(self) -> bool:
        """Whether every choice has its finish reason."""
        ...

    def encode(self, batch: Batch) -> bytes:
        """One batch's events."""
        ...

    def end(self) -> bytes:
        """What comes after a whole answer."""
        ...


async def plain(
    request: web.Request,
    call: Call,
    encode: Callable[[Batch], bytes],
    content_type: str = responses.JSON,
    *,
    within_s: float | None = None,
) -> web.StreamResponse:
    """Answer with one document; `within_s`: it must be there by then."""
    with _Told(request, call) as (generation, record, ended):
        async with aclosing(generation.answers.run(call, record)) as batches:
            events = await _or_goodbye(request, record, ended, _all(batches), within_s)
        response = responses.document(encode(events), content_type=content_type)
        response.headers.update(responses.decision_headers(record))
        ended.status, ended.error = 200, None
        return response


async def stream(
    request: web.Request,
    call: Call,
    chunks: Chunks,
    in_band: Callable[[RouterError], bytes] | None,
    content_type: str = EVENTS_TYPE,
    *,
    within_s: float | None = None,
    waiting: Waiting | None = None,
) -> web.StreamResponse:
    """Answer with one event after the other.

    Args:
        in_band: an error as an event; None: the form has no room for one, so the connection is cut, and the
            client sees that the answer is not whole.
        within_s: the first event must be there by then.
        waiting: gives signs of life until then.
    """
    with _Told(request, call) as (generation, record, ended):
        async with aclosing(generation.answers.run(call, record)) as batches:
            first = await _or_goodbye(request, record, ended, anext(batches, None), within_s)
            if first is None:
                raise StreamBroken("the answer ended before it began")
            stall_s = generation.server.client_stall
            sent = None if waiting is None else await waiting.over()
            if sent is None:
                sent = EventStream(request, responses.decision_headers(record), stall_s, content_type)
                await sent.prepare(request)
            ended.status = sent.status
            try:
                ended.error = await _relay(sent, first, batches, chunks, in_band)
            except ConnectionError as gone:
                ended.error = "client_stall" if isinstance(gone, ClientStalled) else "client_gone"
                sent.abort()
            except asyncio.CancelledError:
                await _say_goodbye(request, sent, in_band)
                raise
        return sent


async def _relay(
    sent: EventStream,
    first: Batch,
    batches: AsyncGenerator[Batch],
    chunks: Chunks,
    in_band: Callable[[RouterError], bytes] | None,
) -> str | None:
    """Send every batch and the end; the code of the error that took the end's place, if one did."""
    try:
        await sent.send(chunks.encode(first))
        async for batch in batches:
            if encoded := chunks.encode(batch):  # some tell clients nothing
                await sent.send(encoded)
        if not chunks.whole:
            raise StreamBroken("the answer ended without a finish reason")
    except RouterError as broken:
        sent.force_close()
        if in_band is None:
            sent.abort()
        else:
            await sent.finish(in_band(broken))
        return broken.code
    await sent.finish(chunks.end())
    return None


async def _all(batches: AsyncGenerator[Batch]) -> Batch:
    """Every event of an answer."""
    return [event async for batch in batches for event in batch]


async def _or_goodbye(
    request: web.Request, record: Record, ended: Ended, wait: Awaitable[T], within_s: float | None
) -> T:
    """Wait while nothing was sent; a client whose call is cut by our own end is told by a status."""
    try:
        async with asyncio.timeout(within_s):
            return await wait
    except TimeoutError:
        raise BackendTimeout("nothing came within the time that was asked for") from None
    except asyncio.CancelledError:
        if _may_be_told(request) and not request[EXCHANGE].begun:
            response = responses.failure(BackendUnavailable(_STOPPING), request[EXCHANGE])
            with suppress(ConnectionError):
                await response.prepare(request)
                await response.write_eof()
                ended.status = response.status
        raise


async def _say_goodbye(
    request: web.Request, sent: EventStream, in_band: Callable[[RouterError], bytes] | None
) -> None:
    """The same in a stream that has begun."""
    if in_band is not None and _may_be_told(request):
        with suppress(ConnectionError):
            await sent.finish(in_band(BackendUnavailable(_STOPPING)))


def _may_be_told(request: web.Request) -> bool:
    """Whether it is our end that cuts a call, and its client is there and reading."""
    return request.app[LIFECYCLE].draining and not request.protocol.writing_paused


class _Told:
    """Decides, and tells `on_call` once, however the call ends.  A class: a generator costs twice as much.

    Whatever is reloaded meanwhile, a call ends in the generation in which it was decided.
    """

    __slots__ = ("_call", "_ended", "_generation", "_request")

    def __init__(self, request: web.Request, call: Call) -> None:
        self._request = request
        self._call = call
        self._generation = request.app[CURRENT].generation
        self._ended = Ended(request_id=request[EXCHANGE].request_id)

    def __enter__(self) -> tuple[Generation, Record, Ended]:
        self._generation.enter()
        try:
            record = self._generation.answers.decide(self._call)
        except BaseException as error:
            self.__exit__(type(error), error, None)  # a context that is not entered is not left
            raise
        self._request[EXCHANGE].record = record
        return self._generation, record, self._ended

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._generation.leave()
        ended, exchange = self._ended, self._request[EXCHANGE]
        if isinstance(error, RouterError):
            ended.status = 200 if exchange.begun else error.status
            ended.error, exchange.told = error.code, True
        elif isinstance(error, asyncio.CancelledError):
            stopping = self._request.app[LIFECYCLE].draining
            ended.status = 499 if ended.status == UNTOLD else ended.status
            ended.error = "cancelled" if stopping else "client_gone"
        ended.duration_s = asyncio.get_running_loop().time() - exchange.started_s
        self._request.app[ON_CALL](self._call, exchange.record, ended)
