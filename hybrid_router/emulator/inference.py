"""A call of a text model from its body to its reply: check, ask, write the form, count the neurons."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from aiohttp import web
from msgspec import Struct

from hybrid_router.api.workers_ai.refusal import Refusal, wrapped
from hybrid_router.api.workers_ai.text_documents import Answer, Shape, Stamp, document
from hybrid_router.api.workers_ai.text_streams import ClassicStream
from hybrid_router.catalogue import prices
from hybrid_router.catalogue.workers_ai import Model
from hybrid_router.core import ids
from hybrid_router.core.call import Call
from hybrid_router.core.errors import RouterError
from hybrid_router.core.event import Batch, Usage
from hybrid_router.emulator import admission, tokens
from hybrid_router.emulator import text_input as ask
from hybrid_router.emulator.delivery import Delivery
from hybrid_router.emulator.incoming import Address
from hybrid_router.emulator.settings import Account
from hybrid_router.emulator.text_streams import ChatStream, Stream, with_numbers


class Asked(Struct, frozen=True, kw_only=True):
    """A call that was accepted: what is asked, of which model, and how the answer shall look.

    `bare`: without the envelope, as OpenAI's addresses answer.  `prompt_tokens`: as the emulator counts.
    """

    call: Call
    priced: Model
    form: Shape
    bare: bool
    stamp: Stamp
    prompt_tokens: int


def accept(account: Account, model_id: str, body: dict[str, Any], address: Address) -> Asked:
    """Check a call in the order in which the service does.

    Raises:
        Refusal: 5007, 5028, 5035, 3021, 5006, 5005, 3039, 8007 or the quota's code.
    """
    model, priced = admission.model_of(account, model_id)
    form = "responses" if address == "responses" else ask.form_of(model, body, openai=address == "chat")
    admission.count(account, priced)
    body = ask.repaired(body)
    account.schemas.check(model, body)
    account.finetunes.check(model, body)
    goes_on = account.scripted and model_id in account.settings.prefill_models
    call = ask.begun(ask.call_from(model, body, form, openai=address == "chat"), model, goes_on=goes_on)
    prompt_tokens = tokens.prompt_tokens(call)
    if model.context_window is not None and prompt_tokens > model.context_window:
        raise Refusal(8007, f"the prompt is longer than the context window of {model.context_window} tokens")
    admission.check_quota(account)
    created = int(account.settings.now().timestamp())
    stamp = Stamp(id=ids.new("id-"), created=created, model=model_id)
    return Asked(
        call=call, priced=priced, form=form, bare=address != "run", stamp=stamp, prompt_tokens=prompt_tokens
    )


class Inference:
    """One accepted call being answered."""

    def __init__(self, account: Account, asked: Asked) -> None:
        self._account = account
        self._asked = asked
        self._answer = Answer()

    @property
    def _usage(self) -> Usage:
        """What the source counted, or, as long as it has not, what was said so far."""
        return self._answer.usage or Usage(self._asked.prompt_tokens, self._answer.pieces_count)

    @property
    def neurons(self) -> float:
        """What the call has cost so far."""
        usage = self._usage
        work = prices.Work(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
        )
        return prices.neurons(self._asked.priced.price, work)

    async def reply(self, delivery: Delivery) -> web.StreamResponse:
        """Ask the source and write its answer; the neurons are charged however that ends.

        A source that breaks off after its first event cuts the connection.

        Raises:
            Refusal: the source failed before its first event, or a plain answer took too long.
        """
        fault = delivery.fault
        streams = self._asked.call.stream and not fault.plain and self._asked.form != "responses"
        try:
            async with aclosing(self._batches()) as batches:
                if not streams:
                    return await delivery.document(await self._folded(batches, numeric=fault.numeric))
                async with asyncio.timeout(self._account.settings.hang_limit_s):
                    first = await _first(batches)
                    documents = self._documents(first, batches, numeric=fault.numeric)
                    return await delivery.stream(documents)
        except (RouterError, TimeoutError):
            return delivery.broken()
        finally:
            self._account.ledger.charge(self.neurons)

    async def whole(self) -> dict[str, Any]:
        """The plain reply's document alone; its neurons are charged however that ends.

        Raises:
            Refusal: the source failed, or took too long.
        """
        try:
            async with aclosing(self._batches()) as batches:
                return await self._folded(batches, numeric=False)
        finally:
            self._account.ledger.charge(self.neurons)

    async def _batches(self) -> AsyncGenerator[Batch]:
        """The source's batches, noted as they pass."""
        async with aclosing(self._account.played(self._asked.call)) as batches:
            async for batch in batches:
                self._answer.take(batch)
                yield batch

    async def _folded(self, batches: AsyncIterator[Batch], *, numeric: bool) -> dict[str, Any]:
        """The plain reply's document."""
        async with admission.plainly(self._account):
            async for _ in batches:
                pass
        asked = self._asked
        as_json = (asked.call.response_format or {}).get("type") in ("json_object", "json_schema")
        result = document(asked.form, self._answer, self._usage, self.neurons, asked.stamp, as_json=as_json)
        if numeric:
            result = with_numbers(result)
        return result if asked.bare else wrapped(result)

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
            prompt_tokens=asked.prompt_tokens,
            usage_style=settings.stream_usage if self._account.scripted else "final",
            trailing_usage=settings.trailing_usage,
            completion=asked.form == "completion",
        )


async def _first(batches: AsyncGenerator[Batch]) -> Batch:
    """What the source says first; until then nothing is sent, so a failure has a status of its own."""
    try:
        return await anext(batches, [])
    except RouterError as error:
        raise admission.refusal(error) from error


async def _chained(first: Batch, batches: AsyncIterator[Batch]) -> AsyncGenerator[Batch]:
    """`first`, then the rest."""
    yield first
    async for batch in batches:
        yield batch
