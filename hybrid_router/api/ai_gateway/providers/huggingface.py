"""Hugging Face: its router in OpenAI's form, and the older task API, by model.

The task API does not say what is asked for; the first of these that a step of the alias can do is meant:
text, a picture, a vector.  Source: huggingface_hub's inference client.
"""

from __future__ import annotations

from typing import Any, Unpack

import msgspec
from msgspec import Struct, field

from hybrid_router.api.ai_gateway.asked import Asked, Given
from hybrid_router.api.ai_gateway.providers import kinds
from hybrid_router.api.ai_gateway.providers.openai import OpenAI
from hybrid_router.api.openai import reply
from hybrid_router.api.openai import sender as senders
from hybrid_router.api.openai.sender import Sender
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import CallRefused, RouterError
from hybrid_router.core.event import Batch

_PIPELINE = "/pipeline/feature-extraction"
_MOST_TEXTS = 128


class TaskParameters(kinds.Parameters, frozen=True, kw_only=True):
    """Of all tasks together."""

    max_new_tokens: int | None = None
    stop: list[str] = field(default_factory=list)
    return_full_text: bool = True


class TaskBody(Struct, frozen=True, kw_only=True):
    """The fields that a task is made of."""

    inputs: str | list[str]
    parameters: TaskParameters = TaskParameters()
    stream: bool = False


class HuggingFace:
    """`v1/…` in OpenAI's form; `models/{id}`, `hf-inference/models/{id}` and `{id}` by task."""

    def asked(self, given: Given, **sender: Unpack[Sender]) -> Asked:
        """See `asked.Provider`."""
        if given.endpoint.startswith("v1/"):
            return OpenAI().asked(given, **sender)
        path = given.endpoint.removeprefix("hf-inference/").removeprefix("models/")
        model = path.removesuffix(_PIPELINE)
        try:
            task = msgspec.convert(given.document, TaskBody)
        except msgspec.ValidationError as error:
            raise CallRefused(str(error)) from None
        if task.stream:
            raise CallRefused("stream: streams come from v1/chat/completions", param="stream")
        texts = [task.inputs] if isinstance(task.inputs, str) else task.inputs
        if not 0 < len(texts) <= _MOST_TEXTS:
            raise CallRefused(f"inputs: expected 1 to {_MOST_TEXTS} texts", param="inputs")
        fields = {"alias": model, "prompts": tuple(texts), **senders.fields(sender, {})}
        embeds = _embedded(fields, task)
        if path.endswith(_PIPELINE):
            return embeds
        return kinds.first_able(given, _written(fields, task), _painted(fields, task), embeds)

    def failure(self, error: RouterError) -> bytes:
        """See `asked.Provider`."""
        return msgspec.json.encode({"error": error.message})


def _written(fields: dict[str, Any], task: TaskBody) -> Asked:
    own = task.parameters
    sampling = own.sampling(own.max_new_tokens, own.stop)
    call = Call(operation=Operation.COMPLETE, sampling=sampling, **fields)

    def document(events: Batch) -> bytes:
        choices, _ = reply.fold(call, events)
        texts = ["".join(choice.text) for choice in choices]
        if own.return_full_text:
            texts = [f"{prompt}{text}" for prompt, text in zip(call.prompts, texts, strict=True)]
        return msgspec.json.encode([{"generated_text": text} for text in texts])

    return Asked(call=call, document=document)


def _painted(fields: dict[str, Any], task: TaskBody) -> Asked:
    return Asked(call=task.parameters.painting(**fields), document=kinds.picture, media_type=None)


def _embedded(fields: dict[str, Any], task: TaskBody) -> Asked:
    call = Call(operation=Operation.EMBED, **fields)

    def document(events: Batch) -> bytes:
        vectors = kinds.floats(call, events)
        return msgspec.json.encode(vectors[0] if isinstance(task.inputs, str) else vectors)

    return Asked(call=call, document=document)
