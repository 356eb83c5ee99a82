"""An inference call from its body to its reply: check, ask the source, write the form, count the neurons."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec
from aiohttp import web
from msgspec import Struct

from hybrid_router.api.workers_ai import text_input as ask
from hybrid_router.api.workers_ai.refusal import Refusal, wrapped
from hybrid_router.api.workers_ai.text_documents import Answer, Stamp, document
from hybrid_router.api.workers_ai.text_input import Form
from hybrid_router.api.workers_ai.text_streams import ChatStream, ClassicStream, Stream, with_numbers
from hybrid_router.catalogue.workers_ai import Model, token_neurons
from hybrid_router.core import ids
from hybrid_router.core.call import Call
from hybrid_router.core.errors import BackendBusy, BackendTimeout, CallRefused, RouterError
from hybrid_router.core.event import Batch, Usage
from hybrid_router.core.step import Step, Timeouts
from hybrid_router.emulator import tokens
from hybrid_router.emulator.calls import SeenCall, without_secrets
from hybrid_router.emulator.delivery import Delivery
from hybrid_router.emulator.fault import Fault
from hybrid_router.emulator.settings import Account


class Asked(Struct, frozen=True, kw_only=True):
    """A call that was accepted: what is asked, of which model, and how the answer shall look."""

    call: Call
    priced: Model
    form: Form
    openai: bool
    stamp: Stamp


async def read_body(request: web.Request) -> dict[str, Any]:
    """The request's JSON object.

    Raises:
        Refusal: 3003 empty, 3006 too large, 5006 no JSON object.
    """
    try:
        raw = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise Refusal(3006) from None
    if not raw:
        raise Refusal(3003)
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.ValidationError:
        raise Refusal(5006, "Bad input: Error: Type mismatch of '/', 'object' expected") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(5006, f"Bad input: Error: the body is not JSON: {error}") from None


def accept(account: Account, model_id: str, body: dict[str, Any], *, openai: bool) -> Asked:
    """Check a call in the order in which the service does.

    Raises:
        Refusal: 5007, 5028, 5035, 3021, 5006, 8007 or the quota's code.
    """
    model, priced = _model(account, model_id)
    form = ask.form_of(model, body, openai=openai)
    if account.settings.rate_limits:
        _count_call(account, priced)
    body = ask.repaired(body)
    account.schemas.check(model, body)
    if "requests" in body:
        raise Refusal(5006, "Bad input: Error: asynchronous batches are not emulated")
    goes_on = account.scripted and model_id in account.settings.prefill_models
    call = ask.begun(ask.call_from(model, body, form, openai=openai), model, goes_on=goes_on)
    if model.context_window is not None and tokens.prompt_tokens(call) > model.context_window:
        raise Refusal(8007, f"the prompt is longer than the context window of {model.context_window} tokens")
    if account.ledger.spent:
        raise Refusal(account.settings.quota_code)
    created = int(account.settings.now().timestamp())
    stamp = Stamp(id=ids.new("id-"), created=created, model=model_id)
    return Asked(call=call, priced=priced, form=form, openai=openai, stamp=stamp)


def _model(account: Account, model_id: str) -> tuple[Model, Model]:
    """The model asked for, and the one that answers and is charged: an alias may stand in between."""
    model = account.models.get(model_id)
    if model is None or model.status == "withdrawn_date_unknown":
        raise Refusal(5007, f"No such model {model_id} or task")
    priced = account.models.get(model.aliased_to, model) if model.aliased_to else model
    if priced.status == "deprecated":
        raise Refusal(5028, f"{model_id} was deprecated on {model.deprecated_on}")
    if priced.requires_workers_paid and not account.settings.paid:
        raise Refusal(5035, f"{model_id} requires the Workers Paid plan")
    return model, priced


def _count_call(account: Account, model: Model) -> None:
    """Count the call against its minute: of its own, for models with a limit of their own, or its task's."""
    catalogue = account.catalogue
    own = model.requires_workers_paid or model.id in catalogue.rate_limit_overrides_per_minute
    if not account.ledger.admit(model.id if own else model.task, catalogue.minute_limit(model)):
        raise Refusal(3021)


class Inference:
    """One accepted call being answered."""

    def __init__(self, account: Account, asked: Asked) -> None:
        self._account = account
        self._asked = asked
        self._answer = Answer()

    @property
    def _usage(self) -> Usage:
        """What the source counted, or, as long as it has not, what was said so far."""
        prompt_tokens = tokens.prompt_tokens(self._asked.call)
        return self._answer.usage or Usage(prompt_tokens, self._answer.pieces_count)

    @property
    def neurons(self) -> float:
        """What the call has cost so far."""
        usage = self._usage
        return token_neurons(
            self._asked.priced, usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens
        )

    async def reply(self, request: web.Request, fault: Fault, seen: SeenCall) -> web.StreamResponse:
        """Ask the source and write its answer; the neurons are charged however that ends.

        A source that breaks off after its first event cuts the connection.

        Raises:
            Refusal: the source failed before its first event, or a plain answer took too long.
        """
        delivery = Delivery(request, fault, seen, self._account.settings)
        streams = self._asked.call.stream and not fault.plain and self._asked.form != "responses"
        try:
            async with aclosing(self._batches()) as batches:
                if not streams:
                    return await delivery.document(await self._whole(batches, numeric=fault.numeric))
                async with asyncio.timeout(self._account.settings.hang_limit_s):
                    first = await _first(batches)
                    documents = self._documents(first, batches, numeric=fault.numeric)
                    return await delivery.stream(documents)
        except (RouterError, TimeoutError):
            return delivery.broken()
        finally:
            self._account.ledger.charge(self.neurons)

    async def _batches(self) -> AsyncGenerator[Batch]:
        """The source's batches, noted as they pass."""
        settings = self._account.settings
        limits = Timeouts(
            connect_s=10, load_s=120, first_token_s=120, between_tokens_s=120, total_s=settings.hang_limit_s
        )
        step = Step(backend="emulator", model=settings.source_model, timeouts=limits, because="emulated")
        async with aclosing(self._account.source.run(self._asked.call, step)) as batches:
            async for batch in batches:
                self._answer.take(batch)
                yield batch

    async def _whole(self, batches: AsyncIterator[Batch], *, numeric: bool) -> dict[str, Any]:
        """The plain reply's document."""
        try:
            async with asyncio.timeout(self._account.settings.plain_limit_s):
                async for _ in batches:
                    pass
        except TimeoutError:
            raise Refusal(3046) from None
        except RouterError as error:
            raise _refusal(error) from error
        asked = self._asked
        as_json = (asked.call.response_format or {}).get("type") in ("json_object", "json_schema")
        result = document(asked.form, self._answer, self._usage, self.neurons, asked.stamp, as_json=as_json)
        if numeric:
            result = with_numbers(result)
        return result if asked.openai else wrapped(result)

    async def _documents(
        self, first: Batch, batches: AsyncIterator[Batch], *, numeric: bool
    ) -> AsyncGenerator[dict[str, Any]]:
        """The stream's documents, in order."""
        stream = self._stream()
        async for batch in _chained(first, batches):
            for event in batch:
                for chunk in stream.chunks(event):
                    await asyncio.sleep(self._account.settings.token_delay_s)
                    yield with_numbers(chunk) if numeric else chunk
        for chunk in stream.ending(self._usage, self.neurons):
            yield chunk

    def _stream(self) -> Stream:
        """How this answer is streamed."""
        asked, settings = self._asked, self._account.settings
        if asked.form == "classic":
            return ClassicStream(with_tools=bool(asked.call.tools))
        return ChatStream(
            asked.stamp,
            prompt_tokens=tokens.prompt_tokens(asked.call),
            usage_style=settings.stream_usage if self._account.scripted else "final",
            trailing_usage=settings.trailing_usage,
            completion=asked.form == "completion",
        )


async def _first(batches: AsyncGenerator[Batch]) -> Batch:
    """What the source says first; until then nothing is sent, so a failure has a status of its own."""
    try:
        return await anext(batches, [])
    except RouterError as error:
        raise _refusal(error) from error


async def _chained(first: Batch, batches: AsyncIterator[Batch]) -> AsyncGenerator[Batch]:
    """`first`, then the rest."""
    yield first
    async for batch in batches:
        yield batch


def _refusal(error: RouterError) -> Refusal:
    """A source's failure as the service would tell it."""
    match error:
        case CallRefused():
            return Refusal(8007, error.message)
        case BackendBusy():
            return Refusal(3040)
        case BackendTimeout():
            return Refusal(3046)
    return Refusal(8005, error.message)


async def answer(
    account: Account, request: web.Request, seen: SeenCall, model_id: str | None, fault: Fault
) -> web.StreamResponse:
    """Answer one inference call; `model_id` None: the body names it.

    Raises:
        Refusal: the call ends in an error.
    """
    body = await read_body(request)
    openai = request.path.endswith("/ai/v1/chat/completions")
    if model_id is None:
        named = body.get("model")
        if not isinstance(named, str):
            raise Refusal(5006, "Bad input: Error: required properties at '/' are 'model'")
        model_id = named
        body = body if openai else _inner_input(body)
    seen.model, seen.stream, seen.body = model_id, bool(body.get("stream")), without_secrets(body)
    instead = await Delivery(request, fault, seen, account.settings).instead()
    if instead is not None:
        return instead
    asked = accept(account, model_id, body, openai=openai)
    return await Inference(account, asked).reply(request, fault, seen)


def _inner_input(body: dict[str, Any]) -> dict[str, Any]:
    """The model's own input in a body of `POST /ai/run`."""
    given = body.get("input")
    if not isinstance(given, dict):
        raise Refusal(5006, "Bad input: Error: Type mismatch of '/input', 'object' expected")
    return given
