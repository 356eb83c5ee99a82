"""Whatever speaks OpenAI's API as a backend."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from types import MappingProxyType
from typing import ClassVar
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from hybrid_router.backends.declared import Declared
from hybrid_router.backends.errand import Errand, Reader
from hybrid_router.backends.openai import chat
from hybrid_router.backends.openai.answer import Answer
from hybrid_router.backends.openai.chat import Manner
from hybrid_router.backends.openai.hearing import transcript
from hybrid_router.backends.openai.pictures import pictures
from hybrid_router.backends.openai.speech import speech
from hybrid_router.backends.openai.upstream import Form, Upstream
from hybrid_router.backends.openai.vectors import embeddings, ranking
from hybrid_router.backends.openai.verdicts import verdicts
from hybrid_router.backends.prefill import begun, can_follow
from hybrid_router.config.cloud_schema import OpenAIBackend
from hybrid_router.core import ids
from hybrid_router.core.call import Call, Feature, Operation
from hybrid_router.core.errors import RouterLoop
from hybrid_router.core.event import Batch
from hybrid_router.core.secret import Secret
from hybrid_router.core.step import Step

VIA = "x-router-via"  # the routers that a call has passed, by ids that mean nothing to anybody else
MOST_HOPS = 4
_STRICT_HOST = "api.openai.com"
_EXTRA_FIELDS = frozenset(
    {
        "background", "input_fidelity", "instructions", "metadata", "moderation", "prediction",
        "prompt_cache_key", "quality", "safety_identifier", "service_tier", "store", "style", "user",
        "verbosity", "web_search_options",
    }
)  # fmt: skip


def text(call: Call, model: str, manner: Manner) -> list[tuple[Errand, Reader]]:
    """The one request of a call that is answered in text."""
    path = "chat/completions" if call.operation is Operation.CHAT else "completions"
    errand = Errand(path=path, body=msgspec.json.encode(chat.document(call, model, manner)))
    answer = Answer(
        count=call.choices_count,
        stops=chat.local_stops(call),
        written=call.written,
        begun=begun(call),
    )
    return [(errand, answer)]


FORMS: Mapping[Operation, Form] = MappingProxyType({
    Operation.CHAT: text,
    Operation.COMPLETE: text,
    Operation.EMBED: embeddings,
    Operation.RERANK: ranking,
    Operation.TRANSCRIBE: transcript,
    Operation.SPEAK: speech,
    Operation.IMAGE: pictures,
    Operation.MODERATE: verdicts,
})  # fmt: skip


class OpenAI(Declared):
    """Runs calls on OpenAI, llama-server, vLLM, Ollama, another router, or whoever else has their form."""

    speaks: ClassVar[frozenset[Operation]] = frozenset(FORMS)
    extra_fields = _EXTRA_FIELDS

    def __init__(self, name: str, config: OpenAIBackend, token: Secret | None) -> None:
        super().__init__(name, config)
        self.local = config.on_this_machine
        self._manner = Manner(
            label=name,
            strict=urlsplit(config.base_url).hostname == _STRICT_HOST,
            max_tokens_field=config.max_tokens_field,
            default_max_tokens=config.default_max_tokens,
            extra_fields=_EXTRA_FIELDS,
        )
        self._id = ids.new("")[:16]
        self._upstream = Upstream(name, config.base_url, token)

    def continues(self, model: str, call: Call) -> bool:
        """A completion, since its prompt is raw text; a chat where it is declared."""
        is_known = call.operation is Operation.COMPLETE or (
            call.operation is Operation.CHAT and Feature.PREFILL in self.features(model)
        )
        return is_known and can_follow(call)

    def _answer(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        passed = {VIA: self._passed(call)}
        asked = [
            (replace(errand, headers={**errand.headers, **passed}), reader)
            for errand, reader in FORMS[call.operation](call, step.model, self._manner)
        ]
        return self._upstream.run(asked, call, step)

    def _passed(self, call: Call) -> str:
        """The routers behind this call, with this one.

        Raises:
            RouterLoop: it has come round.  Nobody failed: a step that is no router may still answer.
        """
        before = [each for each in call.headers.get(VIA, "").replace(" ", "").split(",") if each]
        if self._id in before or len(before) >= MOST_HOPS:
            raise RouterLoop(
                f"{self._name} leads back to this router: the call would go round for ever; take one of "
                "the two backends that name each other out"
            )
        return ",".join([*before, self._id])

    async def close(self) -> None:
        """Close every connection."""
        await self._upstream.close()
