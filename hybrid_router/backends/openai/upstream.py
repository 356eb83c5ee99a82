"""Requests in OpenAI's form to one server, one after the other, and what their replies bring."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TypeAlias

from hybrid_router.backends import prefill
from hybrid_router.backends.errand import Errand, Line, Reader
from hybrid_router.backends.http import Http, redactor
from hybrid_router.backends.openai.answer import Answer
from hybrid_router.backends.openai.chat import Manner
from hybrid_router.backends.openai.refusal import refusal
from hybrid_router.backends.tally import added
from hybrid_router.core.call import Call
from hybrid_router.core.errors import (
    BackendError,
    BackendMisconfigured,
    CallRefused,
    PrefillRefused,
    RouterError,
)
from hybrid_router.core.event import Batch, Usage
from hybrid_router.core.secret import Secret
from hybrid_router.core.step import Step

TAIL_S = 2.0  # after the last finish only usage is still to come
Asked: TypeAlias = Iterable[tuple[Errand, Reader]]
Form: TypeAlias = Callable[[Call, str, Manner], list[tuple[Errand, Reader]]]


class Upstream:
    """One server.  See `backends.errand.Words`.

    Attributes:
        label: the backend's name, for messages: whoever speaks OpenAI's API may be anybody.
    """

    def __init__(self, label: str, root: str, token: Secret | None) -> None:
        self.label = label
        self._token = token
        secret = "" if token is None else token.reveal()
        self._is_sendable = secret.isascii() and (not secret or secret.isprintable())
        self._redact = redactor(secret)
        self._line = Line(Http(label, self._redact, tls=root.startswith("https:")), root, self)

    def headers(self) -> Mapping[str, str]:
        """Credentials, if there are any."""
        secret = "" if self._token is None else self._token.reveal()
        return {"Authorization": f"Bearer {secret}"} if secret else {}

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> RouterError:
        """What an error reply means."""
        return refusal(self.label, status, headers, body, now=datetime.now(UTC), redact=self._redact)

    async def run(self, asked: Asked, call: Call, step: Step) -> AsyncGenerator[Batch]:
        """Have every request answered, in order; what they cost together comes last.

        Raises:
            RouterError: see `backends.errand.Line.run`.
        """
        if not self._is_sendable:
            raise BackendMisconfigured(
                f"the token of {self.label} holds characters that no header may: check its source"
            )
        usage: Usage | None = None
        try:
            for errand, reader in asked:
                async with aclosing(self._one(errand, reader, step)) as batches:
                    async for batch in batches:
                        usage = _counted(usage, batch)
                        kept: Batch = [event for event in batch if not isinstance(event, Usage)]
                        if kept:
                            yield kept
        except RouterError as error:
            failure = _prefill_refused(self.label, error, call)
        else:
            if usage is not None:
                yield [prefill.moved(usage, call) if call.written else usage]
            return
        raise failure

    async def _one(self, errand: Errand, reader: Reader, step: Step) -> AsyncGenerator[Batch]:
        async with aclosing(self._line.run(errand, reader, step.timeouts.connect_s)) as batches:
            if not isinstance(reader, Answer):
                async for batch in batches:
                    yield batch
                return
            while batch := await _next(batches, reader):
                yield batch
            if usage := reader.usage:
                yield [usage]

    async def close(self) -> None:
        """Close every connection."""
        await self._line.close()


async def _next(batches: AsyncGenerator[Batch], answer: Answer) -> Batch:
    """The next batch; nothing at the end.  Once the answer is whole, its tail may be late or fail."""
    if not answer.finished:
        return await anext(batches, [])
    try:
        async with asyncio.timeout(TAIL_S):
            return await anext(batches, [])
    except (BackendError, CallRefused, TimeoutError):
        return []


def _counted(usage: Usage | None, batch: Batch) -> Usage | None:
    for event in batch:
        if isinstance(event, Usage):
            usage = event if usage is None else added(usage, event)
    return usage


def _prefill_refused(label: str, error: RouterError, call: Call) -> RouterError:
    """`error`, in this server's name if it blames the beginning of the answer that it was given."""
    found = prefill.refused(error, call)
    if not isinstance(found, PrefillRefused):
        return error
    return PrefillRefused(f"{label} does not go on from an answer's beginning", detail=error.detail)
