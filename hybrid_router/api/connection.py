"""One client connection: aiohttp's, with the waits and the discretion it lacks.

aiohttp waits for ever for the rest of a request's head, and logs malformed requests with their
headers, keys included.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import Any

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from hybrid_router.api.answers import OnRefusal, Refused
from hybrid_router.api.openai import error as openai_error
from hybrid_router.core import ids
from hybrid_router.core.errors import CallRefused, RouterError

_log = logging.getLogger(__name__)


class Bare(web.Response):
    """A response outside of the application's hooks, without a banner all the same."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall("Server", None)


class Connection(RequestHandler):
    """One client connection.

    Args:
        header_timeout_s: how long a request's head may take, from its first byte, or for the first
            request from the connection's start.
        client_stall_s: how long the rest of a response may wait for the client to read.
        on_refusal: hears of what is no HTTP.
    """

    __slots__ = ("_client_stall_s", "_head_timer", "_header_timeout_s", "_on_refusal", "_retiring", "task")

    def __init__(
        self,
        manager: web.Server,
        *,
        header_timeout_s: float,
        client_stall_s: float,
        on_refusal: OnRefusal,
        **options: Any,
    ) -> None:
        super().__init__(manager, **options)
        self._header_timeout_s = header_timeout_s
        self._client_stall_s = client_stall_s
        self._on_refusal = on_refusal
        self._head_timer: asyncio.TimerHandle | None = None
        self._retiring = False
        self.task: asyncio.Task[None] | None = None  # kept when the connection is lost: it may still clean up

    @property
    def idle(self) -> bool:
        """No request is here, not even in a queue."""
        return not self._request_in_progress and not self._messages

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.task = self._task_handler
        self._head_timer = self._loop.call_later(self._header_timeout_s, self._give_up)

    def data_received(self, data: bytes) -> None:
        seen_count = self._request_count
        super().data_received(data)
        if self._request_count != seen_count:
            self._stop_timer()
            self._fail_body()
        elif self._head_timer is None and self.idle:  # else it is part of a body
            self._head_timer = self._loop.call_later(self._header_timeout_s, self._give_up)

    def _fail_body(self) -> None:
        """If what came broke the body that is being read, say so to its reader.

        aiohttp only queues a 400 behind it: the reader would wait until `body_timeout`, and the client
        get two responses to one request.
        """
        request = self._current_request
        if request is None or request.content.is_eof() or not self._messages:
            return
        if not isinstance(self._messages[-1][0], RawRequestMessage):
            self._messages.pop()
            request.content.set_exception(web.RequestPayloadError("malformed body"))
            self.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        """The head did not come.  Nobody is owed an answer.

        If somebody is, what came was part of a body: between the moment when aiohttp takes a request from
        its queue and the one when the request's task runs, the connection looks idle.
        """
        self._head_timer = None
        if self.idle:
            self.force_close()

    def retire(self) -> None:
        """Close now if idle, else after the response that is being made."""
        self._retiring = True
        if self.idle:
            self.force_close()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send what is left of a response, for `client_stall` at most."""
        if isinstance(resp, web.HTTPException):
            resp = _failure(CallRefused(resp.reason), resp.status)
        # A bare timer, not `asyncio.timeout`: this is done for every response.  The abort ends the wait.
        stalled = self._loop.call_later(self._client_stall_s, self._drop)
        try:
            sent = await super().finish_response(request, resp, start_time)
        finally:
            stalled.cancel()
        if self._retiring:
            self.close()
        return sent

    def _drop(self) -> None:
        """The client reads nothing.  It is gone, with all that was not sent."""
        if self.transport is not None:
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what cannot be parsed, and what nobody expected.

        Neither the answer nor the log repeats a byte of the request.
        """
        gone = self.transport is None or self.transport.is_closing()
        if gone and isinstance(exc, ConnectionError):  # it left while it was told something
            raise exc
        if status == 400:  # noqa: PLR2004
            return self._malformed(request)
        frames = "".join(traceback.format_tb(exc.__traceback__)) if exc is not None else ""
        _log.error("a request failed unexpectedly: %s\n%s", type(exc).__name__, frames)
        if request.writer.output_size > 0:
            raise ConnectionError("part of a response is out already")
        return _failure(RouterError("something went wrong inside the router"), status)

    def _malformed(self, request: web.BaseRequest) -> web.Response:
        """The answer to what is no HTTP, for instance TLS."""
        error = CallRefused("this is not well-formed HTTP")
        response = _failure(error, error.status)
        self._on_refusal(
            Refused(
                request=response.headers["x-request-id"],
                status=error.status,
                error=error.code,
                client=request.remote,
            )
        )
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """aiohttp's own words about an exception: its type is enough, its text may quote a request."""
        _log.error("a connection failed unexpectedly: %s", type(kw.get("exc_info")).__name__)


def _failure(error: RouterError, status: int) -> web.Response:
    """An error object, after which the connection closes."""
    response = Bare(
        body=openai_error.document(error),
        status=status,
        headers={
            "content-type": "application/json",
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            "x-request-id": ids.new("req_"),
            "openai-processing-ms": "0",
        },
    )
    response.force_close()
    return response
