"""Anthropic as a backend.

Always streamed from there, also for plain calls: so that the first token's timer means something and a
broken answer can be replaced.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import ClassVar

from hybrid_router.backends.anthropic.answer import Answer
from hybrid_router.backends.anthropic.encode import EXTRA_FIELDS, Request, request
from hybrid_router.backends.anthropic.refusal import refusal
from hybrid_router.backends.declared import Declared
from hybrid_router.backends.errand import Errand, Line, Unreadable
from hybrid_router.backends.http import Http, redactor, revealed
from hybrid_router.backends.prefill import begun, can_follow, moved
from hybrid_router.backends.readers import Events
from hybrid_router.backends.tally import total
from hybrid_router.config.cloud_schema import AnthropicBackend
from hybrid_router.core.call import Call, Feature, Operation
from hybrid_router.core.errors import BackendError, RouterError
from hybrid_router.core.event import Batch, Usage
from hybrid_router.core.secret import Secret
from hybrid_router.core.step import Step

VERSION = "2023-06-01"
_LABEL = "Anthropic"
_CAN = frozenset({Feature.TOOLS, Feature.IMAGES, Feature.SCHEMA, Feature.PREFILL})


class Words:
    """See `backends.errand.Words`."""

    label = _LABEL

    def __init__(self, token: Secret) -> None:
        self._token = token
        self.redact = redactor(token.reveal())

    def headers(self) -> Mapping[str, str]:
        """Credentials, and which form of the API is spoken."""
        return {
            "x-api-key": revealed(self._token, self.label),
            "anthropic-version": VERSION,
            "Accept": "text/event-stream",
        }

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> RouterError:
        """What an error reply means."""
        return refusal(status, headers, body, now=datetime.now(UTC), redact=self.redact)


class Anthropic(Declared):
    """Runs calls on Anthropic's Messages API."""

    speaks: ClassVar[frozenset[Operation]] = frozenset({Operation.CHAT})
    extra_fields = EXTRA_FIELDS

    def __init__(self, name: str, config: AnthropicBackend, token: Secret) -> None:
        super().__init__(name, config)
        self._default_max_tokens = config.default_max_tokens
        self._words = Words(token)
        http = Http(_LABEL, self._words.redact, tls=config.base_url.startswith("https:"))
        self._line = Line(http, config.base_url, self._words)

    def features(self, model: str) -> frozenset[Feature]:
        """What is declared and has a form."""
        return super().features(model) & _CAN

    def continues(self, model: str, call: Call) -> bool:
        """Where `prefill` is declared, and nothing is demanded of the answer's form."""
        return Feature.PREFILL in self.features(model) and call.response_format is None and can_follow(call)

    async def _answer(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        """Choices are asked for one after the other: there is one an answer."""
        asked = request(call, step.model, self._default_max_tokens)
        usages: list[Usage | None] = []
        for index in range(call.n):
            answer = _reading(asked, call, index)
            async with aclosing(self._choice(asked, answer, step)) as batches:
                async for batch in batches:
                    yield batch
            usages.append(answer.usage)
        if usage := total(usages):
            yield [moved(usage, call)]

    async def _choice(self, asked: Request, answer: Answer, step: Step) -> AsyncGenerator[Batch]:
        reader = Events(answer.read, answer.end, lambda: answer.done, answer.read_whole)
        errand = Errand(path="v1/messages", body=asked.body)
        async with aclosing(self._line.run(errand, reader, step.timeouts.connect_s)) as batches:
            async for batch in batches:
                yield batch
        if answer.broken is not None:
            raise self._named(answer.broken)

    def _named(self, broken: Unreadable) -> RouterError:
        if broken.reported:
            return self._words.refusal(200, {}, broken.reported)
        return BackendError(f"{_LABEL} {broken.why}", detail=self._words.redact(broken.detail))

    async def close(self) -> None:
        """Close every connection."""
        await self._line.close()


def _reading(asked: Request, call: Call, index: int) -> Answer:
    return Answer(index, call.sampling.stop, call.written, asked.lead if begun(call) else "")
