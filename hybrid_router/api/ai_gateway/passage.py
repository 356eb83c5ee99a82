"""A request's way through a gateway: what was kept, how many may come, each step and its tries."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from datetime import UTC, datetime

from aiohttp import web
from msgspec import Struct
from msgspec.structs import replace

from hybrid_router.api import calls, gallery, responses
from hybrid_router.api.ai_gateway import error as gateway_error
from hybrid_router.api.ai_gateway.asked import Asked, Given, Provider
from hybrid_router.api.ai_gateway.gateways import Gateway, Gateways, named
from hybrid_router.api.ai_gateway.names import WORKERS_AI, Names
from hybrid_router.api.ai_gateway.providers.table import PROVIDERS
from hybrid_router.api.exchange import EXCHANGE
from hybrid_router.api.generation import CURRENT
from hybrid_router.api.keep_alive import SPACE, Waiting, finished
from hybrid_router.api.multipart import Form
from hybrid_router.api.openai import endpoints
from hybrid_router.api.openai.sender import Sender
from hybrid_router.api.workers_ai.directory import DIRECTORY
from hybrid_router.core import ids
from hybrid_router.core.call import Call
from hybrid_router.core.errors import (
    BackendError,
    BackendMisconfigured,
    Inexpressible,
    NotFound,
    QuotaExhausted,
    RouterError,
)
from hybrid_router.core.step import Plan
from hybrid_router.core.upload import Upload
from hybrid_router.dispatch.record import Record
from hybrid_router.gateway import cache, retries
from hybrid_router.gateway.cache import Kept
from hybrid_router.gateway.controls import Controls, first_of
from hybrid_router.gateway.logbook import ENTROPY_BYTES, Entry, ulid
from hybrid_router.gateway.steps import GatewayStep
from hybrid_router.routing.ledger import NEURON_USD

STATUS, STEP, LOG_ID, EVENT_ID = (
    "cf-aig-cache-status",
    "cf-aig-step",
    "cf-aig-log-id",
    "cf-aig-event-id",
)
_PROVIDER, _MODEL, _REQUEST_ID = "cf-aig-provider", "cf-aig-model", "cf-ai-req-id"
# Asking the same once more changes nothing about these.
_FINAL = (Inexpressible, QuotaExhausted, BackendMisconfigured)
_BROKEN = frozenset({"failed", "broken", "cancelled"})
_GOOD = 200
_GONE = 499
_ERRORS = 400
_LONGEST_SHOWN = 256


class Brought(Struct, frozen=True, kw_only=True, eq=False):
    """What came beside a JSON body: of a request to one provider."""

    form: Form | None = None
    content: Upload | None = None
    parameters: dict[str, str] = {}


class _Turn(Struct, frozen=True, kw_only=True, eq=False):
    """A step whose turn it is.

    Attributes:
        last: no other comes after it.
        key: what its answer is kept by; None: it is not.
    """

    number: int
    step: GatewayStep
    controls: Controls
    last: bool
    key: bytes | None


class _Try(Struct, kw_only=True, eq=False):
    """One try of a step, as the log will have it."""

    turn: _Turn
    log_id: str
    started_s: float
    model: str = ""
    media_type: str = ""


class Passage:
    """One request on its way through a gateway."""

    def __init__(
        self,
        request: web.Request,
        gateways: Gateways,
        gateway: Gateway,
        wishes: Controls,
        brought: Brought | None = None,
    ) -> None:
        generation = request.app[CURRENT].generation
        self._request = request
        self._gateways = gateways
        self._gateway = gateway
        self._wishes = wishes
        self._brought = brought or Brought()
        self._exchange = request[EXCHANGE]
        self._answers = generation.answers
        self._names = Names(
            named(request),
            gateway.settings,
            generation.fronts,
            self._answers.aliases,
            request.app[DIRECTORY].models,
        )
        self._counted = False
        self._signs = AsyncExitStack()
        self._waiting: Waiting | None = None
        self._event_id = wishes.event_id or ids.new("")

    async def run(self, steps: Sequence[GatewayStep]) -> web.StreamResponse:
        """The answer of the first step that works.

        Raises:
            RouterError: none does; the last one's error, in the words of its provider.
        """
        async with self._signs:
            try:
                return await self._first_of(steps)
            except RouterError as error:
                if self._waiting is None:
                    raise
                return await self._waiting.failed(error)

    async def _first_of(self, steps: Sequence[GatewayStep]) -> web.StreamResponse:
        self._exchange.headers[EVENT_ID] = _printable(self._event_id)
        for number, step in enumerate(steps):
            controls = first_of(step.controls, self._wishes, self._gateway.controls)
            last, key = number == len(steps) - 1, self._key(step, controls)
            turn = _Turn(number=number, step=step, controls=controls, last=last, key=key)
            self._exchange.headers[STEP] = str(number)
            if (kept := self._kept(turn)) is not None:
                return self._again(kept, turn)
            self._count()
            try:
                return await self._step(turn)
            except RouterError:
                if last or not retries.may_go_on(self._elapsed_s):
                    raise
        raise gateway_error.NoGateway("there is no step")  # pragma: no cover - steps are never empty

    @property
    def _elapsed_s(self) -> float:
        return asyncio.get_running_loop().time() - self._exchange.started_s

    def _count(self) -> None:
        """Count the request, once: what was kept is free.

        Raises:
            BackendBusy: it is one too many for the gateway.
        """
        if not self._counted:
            self._counted = True
            if not self._gateway.admits():
                self._exchange.failure = gateway_error.document
                raise self._gateway.full(named(self._request))

    def _kept(self, turn: _Turn) -> Kept | None:
        if turn.key is None or turn.controls.skip_cache:
            return None
        kept = self._gateway.find(turn.key)
        return None if kept is None or self._is_ruled(turn.step) else kept

    def _is_ruled(self, step: GatewayStep) -> bool:
        """Whether the call is refused, or has to stay here: then it is asked, whatever was kept."""
        try:
            with ExitStack() as stack:
                call = PROVIDERS[step.provider].asked(self._given(step, stack), **self._sender(step)).call
                plan = self._plan(step.provider, call)
        except RouterError:  # told in its provider's words once it is asked
            return True
        return plan.local_only or plan.refused is not None

    def _key(self, step: GatewayStep, controls: Controls) -> bytes | None:
        if not controls.ttl_s or step.query is None:
            return None
        principal, query = self._exchange.principal, step.query
        asked = [query, sorted(self._brought.parameters.items())]
        return cache.key(principal, step.provider, step.endpoint, asked, controls.cache_key)

    def _again(self, kept: Kept, turn: _Turn) -> web.Response:
        """What was answered before."""
        one = self._begin(turn)
        one.model, one.media_type = kept.model, kept.media_type
        self._exchange.headers[STATUS] = "HIT"
        tokens = (kept.tokens_in, kept.tokens_out)
        self._note(one, _GOOD, tokens=tokens, cached=True)
        return responses.document(kept.content, content_type=kept.media_type)

    async def _step(self, turn: _Turn) -> web.StreamResponse:
        """A step's answer, after as many tries as it takes and may have."""
        controls, name = turn.controls, turn.step.provider
        provider = PROVIDERS.get(name)
        self._exchange.failure = provider.failure if provider else gateway_error.document
        self._exchange.headers.pop(_REQUEST_ID, None)
        if name == WORKERS_AI:
            self._exchange.headers[_REQUEST_ID] = str(uuid.uuid4())
        for count in range(1, controls.tries + 1):
            one = self._begin(turn)
            within_s = retries.within_s(controls, count, last_step=turn.last)
            try:
                return await self._try(one, provider, within_s)
            except asyncio.CancelledError:
                self._note(one, _GONE)
                raise
            except RouterError as error:
                self._note(one, error.status)
                pause_s = retries.wait_s(controls, count)
                over = not retries.may_go_on(self._elapsed_s, pause_s)
                if over or count == controls.tries or not _may_pass(error):
                    raise
            await asyncio.sleep(pause_s)
        raise BackendError("the step was never tried")  # pragma: no cover - there is always a first try

    def _begin(self, turn: _Turn) -> _Try:
        log_id = ""
        if turn.controls.collect_log:
            log_id = ulid(self._gateways.now_s, secrets.token_bytes(ENTROPY_BYTES))
        self._exchange.record = None
        for name in (LOG_ID, STATUS, _PROVIDER, _MODEL):  # those of another step or try
            self._exchange.headers.pop(name, None)
        if log_id:
            self._exchange.headers[LOG_ID] = log_id
        return _Try(turn=turn, log_id=log_id, started_s=asyncio.get_running_loop().time())

    async def _try(self, one: _Try, provider: Provider | None, within_s: float | None) -> web.StreamResponse:
        if provider is None:
            raise NotFound(f"invalid provider: this gateway plays {', '.join(sorted(PROVIDERS))}")
        with ExitStack() as stack:
            given = self._given(one.turn.step, stack)
            asked = provider.asked(given, **self._sender(one.turn.step))
            one.model = asked.call.alias
            call = replace(asked.call, alias=self._alias(one))
            if asked.chunks is not None:
                response = await calls.stream(
                    self._request, call, asked.chunks, asked.in_band, asked.stream_type, within_s=within_s
                )
                one.media_type = asked.stream_type
            else:
                response = await self._whole(one, asked, call, within_s)
            self._note(one, response.status)
            return response

    async def _whole(self, one: _Try, asked: Asked, call: Call, within_s: float | None) -> web.StreamResponse:
        """A plain answer, which is kept if it may be."""
        key = one.turn.key
        if key is not None:
            self._exchange.headers[STATUS] = "MISS"
        await self._give_signs(one, asked)
        response = await calls.plain(self._request, call, asked.document, within_s=within_s)
        if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
            return response
        one.media_type = asked.media_type or gallery.media_type(response.body)
        response.headers["content-type"] = one.media_type
        response.set_status(asked.status)
        record = self._exchange.record
        if key is not None and record is not None and _may_leave_a_trace(record):
            tokens_in, tokens_out = _tokens(record)
            kept = Kept(
                principal=self._exchange.principal,
                content=response.body,
                media_type=one.media_type,
                until_s=self._gateways.now_s + one.turn.controls.ttl_s,
                model=one.model[:_LONGEST_SHOWN],
                tokens_in=tokens_in,
                tokens_out=tokens_out,
            )
            self._gateways.keep(self._gateway, key, kept)
        sent = None if self._waiting is None else await self._waiting.over()
        return response if sent is None else await finished(sent, response.body)

    async def _give_signs(self, one: _Try, asked: Asked) -> None:
        """Signs of life from here on, through all further tries.

        They send the head, which names the step and has one status: so only once nothing else can come.
        """
        is_plain = asked.media_type == responses.JSON and asked.status == _GOOD
        if self._waiting is None and one.turn.last and is_plain:
            waiting = Waiting(self._request, SPACE, responses.JSON)
            self._waiting = await self._signs.enter_async_context(waiting)

    def _alias(self, one: _Try) -> str:
        provider = one.turn.step.provider
        alias = self._names.alias(provider, one.model)
        self._exchange.headers[_PROVIDER] = provider
        self._exchange.headers[_MODEL] = _printable(one.model)
        return alias

    def _given(self, step: GatewayStep, stack: ExitStack) -> Given:
        return Given(
            endpoint=step.endpoint,
            request=self._request,
            stack=stack,
            able=lambda call: bool(self._plan(step.provider, call).steps),
            query=step.query,
            form=self._brought.form,
            content=self._brought.content,
            parameters=self._brought.parameters,
        )

    def _plan(self, provider: str, call: Call) -> Plan:
        """Who would answer it.  Raises RouterError."""
        return self._answers.explain(replace(call, alias=self._names.alias(provider, call.alias)))

    def _sender(self, step: GatewayStep) -> Sender:
        """Each try is a call of its own.  Rules see the step's headers beside the request's."""
        told = endpoints.headers(self._request)
        for name, value in step.seen.items():
            told[name] = f"{told[name]}, {value}" if name in told else value
        return {
            "call_id": ids.new("aig-"),
            "principal": self._exchange.principal,
            "headers": told,
            "path": self._request.path,
        }

    def _note(
        self, one: _Try, status: int, tokens: tuple[int, int] | None = None, *, cached: bool = False
    ) -> None:
        """Into the log, if wished; nothing that the caller wrote unless the call is surely not private."""
        if one.log_id:
            self._gateway.log.add(self._entry(one, status, tokens, cached=cached))

    def _entry(self, one: _Try, status: int, tokens: tuple[int, int] | None, *, cached: bool) -> Entry:
        record, step, controls = self._exchange.record, one.turn.step, one.turn.controls
        tokens_in, tokens_out = tokens or _tokens(record)
        last = record.last if record is not None else None
        usd = (last.neurons or 0.0) * NEURON_USD if last is not None else 0.0
        told = controls.cost
        private = not cached and (record is None or not _may_leave_a_trace(record))
        elapsed_s = asyncio.get_running_loop().time() - one.started_s
        return Entry(
            id=one.log_id,
            principal=self._exchange.principal,
            created_at=datetime.fromtimestamp(self._gateways.now_s, UTC).isoformat(timespec="milliseconds"),
            provider=step.provider[:_LONGEST_SHOWN],
            path=step.endpoint[:_LONGEST_SHOWN],
            model=one.model[:_LONGEST_SHOWN],
            response_content_type=one.media_type,
            status_code=status,
            success=status < _ERRORS and (last is None or last.outcome not in _BROKEN),
            cached=cached,
            duration=round(elapsed_s * 1000),
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            cost=0.0 if cached else usd if told is None else told.usd(tokens_in, tokens_out),
            custom_cost=told is not None,
            step=one.turn.number,
            metadata={} if private else controls.metadata or {},
            event_id="" if private else self._event_id,
        )


def _may_pass(error: RouterError) -> bool:
    """Whether the same step may do better a moment later."""
    return isinstance(error, BackendError) and not isinstance(error, _FINAL)


def _may_leave_a_trace(record: Record) -> bool:
    """Nothing is kept of a call that must not leave this machine, not even if nobody here could serve it."""
    return not record.plan.local_only and not any(step.private for step in record.plan.steps)


def _tokens(record: Record | None) -> tuple[int, int]:
    last = record.last if record is not None else None
    usage = last.usage if last is not None else None
    return (0, 0) if usage is None else (usage.prompt_tokens, usage.completion_tokens)


def _printable(text: str) -> str:
    """As a header may hold it."""
    return "".join(c if " " <= c <= "~" else "?" for c in text[:_LONGEST_SHOWN])
