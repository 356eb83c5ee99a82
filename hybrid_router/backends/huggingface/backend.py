"""Hugging Face as a backend: Inference Providers for chats, the task API for one model's one task."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import ClassVar

import msgspec
from msgspec.structs import replace

from hybrid_router.backends.declared import Declared
from hybrid_router.backends.errand import Errand, Reader
from hybrid_router.backends.huggingface.tasks import TASKS
from hybrid_router.backends.openai import chat
from hybrid_router.backends.openai.answer import Answer
from hybrid_router.backends.openai.chat import Manner
from hybrid_router.backends.openai.upstream import Form, Upstream
from hybrid_router.backends.openai.vectors import embeddings
from hybrid_router.backends.prefill import begun, can_follow
from hybrid_router.config.cloud_schema import HuggingFaceBackend
from hybrid_router.core.call import Call, Feature, Operation
from hybrid_router.core.event import Batch
from hybrid_router.core.secret import Secret
from hybrid_router.core.step import Step


def chats(call: Call, model: str, manner: Manner) -> list[tuple[Errand, Reader]]:
    """One request for each choice: most providers give one, whatever is asked for."""
    asked: list[tuple[Errand, Reader]] = []
    for index in range(call.n):
        seed = call.sampling.seed
        sampling = replace(call.sampling, seed=None if seed is None else seed + index)
        one = replace(call, n=1, sampling=sampling)
        answer = Answer(first=index, stops=chat.local_stops(call), written=call.written, begun=begun(call))
        body = msgspec.json.encode(chat.document(one, model, manner))
        asked.append((Errand(path="chat/completions", body=body), answer))
    return asked


class HuggingFace(Declared):
    """Runs calls on Hugging Face.

    A model that is named with its provider, `org/name:provider`, is embedded by that provider, in OpenAI's
    form; without one by the task API.
    """

    speaks: ClassVar[frozenset[Operation]] = frozenset({Operation.CHAT, *TASKS})

    def __init__(self, name: str, config: HuggingFaceBackend, token: Secret) -> None:
        super().__init__(name, config)
        self._manner = Manner(label=name, strict=True, default_max_tokens=config.default_max_tokens)
        self._router = Upstream(name, config.base_url, token)
        self._tasks = Upstream(name, config.tasks_url, token)

    def continues(self, model: str, call: Call) -> bool:
        """A chat, where it is declared."""
        declared = call.operation is Operation.CHAT and Feature.PREFILL in self.features(model)
        return declared and can_follow(call)

    def _answer(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        form: Form = chats
        upstream = self._router
        if call.operation is Operation.EMBED and ":" in step.model:
            form = embeddings
        elif call.operation is not Operation.CHAT:
            form, upstream = TASKS[call.operation], self._tasks
        return upstream.run(form(call, step.model, self._manner), call, step)

    async def close(self) -> None:
        """Close every connection."""
        await self._router.close()
        await self._tasks.close()
