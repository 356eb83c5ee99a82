"""One request to Workers AI and its reply: a stream, or a whole answer where a model will not stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime

import aiohttp
from msgspec.structs import replace
from multidict import CIMultiDict
from yarl import URL

from hybrid_router.backends.errand import Errand, Line, Reader, Unreadable, error_body
from hybrid_router.backends.http import Http, redactor, revealed
from hybrid_router.backends.workers_ai import gateway, wire
from hybrid_router.backends.workers_ai.answer import Answer
from hybrid_router.backends.workers_ai.encode import Request
from hybrid_router.backends.workers_ai.gateway import Passage
from hybrid_router.backends.workers_ai.refusal import refusal
from hybrid_router.backends.workers_ai.several import Several
from hybrid_router.config.cloud_schema import WorkersAIBackend
from hybrid_router.core.errors import BackendError, RouterError
from hybrid_router.core.event import Batch
from hybrid_router.core.secret import Secret
from hybrid_router.core.sse import Decoder, EventTooLong
from hybrid_router.core.step import Step

EVENT_LIMIT_BYTES = 2**20
ANSWER_LIMIT_BYTES = 16 * 2**20
SESSION_HEADER = "x-session-affinity"
TAIL_S = 2.0  # after the finish reason: for the usage line and `[DONE]`
_OK = 200


class Upstream:
    """The account's side of the API."""

    label = "Workers AI"

    def __init__(
        self, config: WorkersAIBackend, account_id: str, token: Secret, gateway_token: Secret | None = None
    ) -> None:
        self._root = gateway.root(config, account_id)
        self._token = token
        self._gateway_token = gateway_token
        self._policy = gateway.policy(config.gateway)
        secrets = [one.reveal() for one in (token, gateway_token) if one is not None]
        self._redact = redactor(*secrets, account_id)
        self._http = Http(self.label, self._redact, tls=self._root.startswith("https:"))
        self._line = Line(self._http, self._root, self)

    def errand(self, errand: Errand, reader: Reader, connect_s: float) -> AsyncGenerator[Batch]:
        """Send one request below `/ai/` and read its reply; see `backends.errand.Line.run`."""
        own = replace(errand, headers={**self._policy, **errand.headers}) if self._policy else errand
        return self._line.run(own, reader, connect_s)

    async def close(self) -> None:
        """Close every connection."""
        await self._http.close()

    async def answer(
        self, request: Request, answer: Answer | Several, step: Step, passage: Passage
    ) -> AsyncGenerator[Batch]:
        """Send `request` and yield what `answer` reads of the reply, after what a gateway says of it.

        Raises:
            RouterError: `CallRefused` or `BackendError`; a caller that has had a batch before knows what
                that means for its own stream.
        """
        reply = await self._post(request, step, passage, stream=request.streams)
        told = passage.remarks(reply.headers)
        try:
            if reply.content_type == "text/event-stream":
                decoder = Decoder(EVENT_LIMIT_BYTES)
                while not answer.done:  # one batch a read
                    if batch := await self._batch(reply, decoder, answer):
                        yield told + batch
                        told = []
                    self._check(answer)
                if not answer.cut:
                    await self._http.settle(reply)
                return
            body = await self._whole(reply)
        finally:
            reply.close()
        if request.streams and wire.says_nothing(body):
            body, told = await self._again(request, step, passage)
        if batch := answer.read_whole(body):
            yield told + batch
        self._check(answer)

    async def _post(
        self, request: Request, step: Step, passage: Passage, *, stream: bool
    ) -> aiohttp.ClientResponse:
        """The reply, if it is one; the caller closes it."""
        url = URL(self._root + request.path, encoded=True)
        body = request.body(stream=stream)
        own = dict(passage.headers())
        if request.session is not None:
            own[SESSION_HEADER] = request.session
        reply = await self._http.post(url, body, lambda: self._headers() | own, step.timeouts.connect_s)
        if reply.status == _OK:
            return reply
        try:
            raise self.refusal(reply.status, reply.headers, await error_body(self._http, reply))
        finally:
            reply.close()

    def headers(self) -> Mapping[str, str]:
        """Credentials, and what is asked of a gateway.  See `backends.errand.Words`."""
        tokens = {"Authorization": f"Bearer {revealed(self._token, self.label)}"}
        return tokens | gateway.credentials(self._gateway_token)

    def _headers(self) -> dict[str, str]:
        """`identity`: a compressed stream would wait for its compressor."""
        return {
            **self._policy,
            **self.headers(),
            "Content-Type": "application/json",
            "Accept": "text/event-stream, application/json",
            "Accept-Encoding": "identity",
        }

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> RouterError:
        """What a reply that is an error means; a gateway's log may tell more."""
        error = refusal(status, headers, body, now=datetime.now(UTC), redact=self._redact)
        if noted := headers.get(gateway.LOG_ID):
            error.detail = f"{error.detail} (gateway log {self._redact(noted)[:100]})"
        return error

    async def _whole(self, reply: aiohttp.ClientResponse) -> bytes:
        """The body of a reply that is JSON."""
        if reply.content_type != "application/json":
            raise BackendError(
                "Workers AI answered with something that is no answer: check base_url",
                detail=f"content type {self._redact(reply.content_type)[:100]}",
            )
        return await self._http.read_whole(reply, ANSWER_LIMIT_BYTES)

    async def _again(self, request: Request, step: Step, passage: Passage) -> tuple[bytes, Batch]:
        """Some models answer a stream that was asked for with an empty document: ask without."""
        reply = await self._post(request, step, passage, stream=False)
        told = passage.remarks(reply.headers)
        try:
            return await self._whole(reply), told
        finally:
            reply.close()

    async def _batch(
        self, reply: aiohttp.ClientResponse, decoder: Decoder, answer: Answer | Several
    ) -> Batch:
        """The events that the next read brings; the last one ends the answer."""
        chunk = await (self._last(reply) if answer.finished else self._http.read(reply))
        try:
            payloads = decoder.feed(chunk) if chunk else decoder.end()
        except EventTooLong as error:
            answer.fail(Unreadable("sent an event that is too long", detail=str(error)))
            return []
        batch = answer.read(payloads)
        if not chunk:
            answer.end()
        return batch

    async def _last(self, reply: aiohttp.ClientResponse) -> bytes:
        """A read once the answer is finished: its end is not waited for long, and may fail."""
        try:
            async with asyncio.timeout(TAIL_S):
                return await self._http.read(reply)
        except (BackendError, TimeoutError):
            return b""

    def _check(self, answer: Answer | Several) -> None:
        """Raise what broke the answer."""
        broken = answer.broken
        if broken is None:
            return
        if broken.reported:
            raise self.refusal(_OK, CIMultiDict(), broken.reported)
        raise BackendError(f"{self.label} {self._redact(broken.why)}", detail=self._redact(broken.detail))
