"""Requests in OpenAI's form to one server, one after the other, and what their replies bring."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TypeAlias

from hybrid_router.backends import prefill
from hybrid_router.backends.errand import Errand, Line, Reader
from hybrid_router.backends.http import Http, redactor, revealed
from hybrid_router.backends.openai.answer import Answer
from hybrid_router.backends.openai.chat import Manner
from hybrid_router.backends.openai.refusal import refusal
from hybrid_router.backends.tally import parted, total
from hybrid_router.core.call import Call
from hybrid_router.core.errors import BackendError, CallRefused, RouterError
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
        self._redact = redactor("" if token is None else token.reveal())
        self._line = Line(Http(label, self._redact, tls=root.startswith("https:")), root, self)

    def headers(self) -> Mapping[str, str]:
        """Credentials, if there are any."""
        secret = "" if self._token is None else revealed(self._token, self.label)
        return {"Authorization": f"Bearer {secret}"} if secret else {}

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> RouterError:
        """What an error reply means."""
        return refusal(self.label, status, headers, body, now=datetime.now(UTC), redact=self._redact)

    async def run(self, asked: Asked, call: Call, step: Step) -> AsyncGenerator[Batch]:
        """Have every request answered, in order; what they cost together comes last, if each told its own.

        Raises:
            RouterError: see `backends.errand.Line.run`.
        """
        told: list[Usage | None] = []
        try:
            for errand, reader in asked:
                counted: Usage | None = None
                async with aclosing(self._line.run(errand, reader, step.timeouts.connect_s)) as batches:
                    while batch := await _next(batches, reader):
                        kept, usage = parted(batch)
                        counted = usage or counted
                        if kept:
                            yield kept
                told.append(reader.usage if isinstance(reader, Answer) else counted)
        except RouterError as error:
            failure = prefill.refused(error, call, self.label)
        else:
            if usage := total(told):
                yield [prefill.moved(usage, call)]
            return
        raise failure

    async def close(self) -> None:
        """Close every connection."""
        await self._line.close()


async def _next(batches: AsyncGenerator[Batch], reader: Reader) -> Batch:
    """The next batch; nothing at the end.  Once a text is whole, its tail may be late or fail."""
    if not (isinstance(reader, Answer) and reader.finished):
        return await anext(batches, [])
    try:
        async with asyncio.timeout(TAIL_S):
            return await anext(batches, [])
    except (BackendError, CallRefused, TimeoutError):
        return []
