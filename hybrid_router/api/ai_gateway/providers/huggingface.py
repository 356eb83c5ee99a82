"""Hugging Face: its router in OpenAI's form, and the older task API, by model.

The task API does not say what is asked for; the first of these that a step of the alias can do is meant:
text, a picture, a vector.  Source: huggingface_hub's inference client.
"""

from __future__ import annotations

import struct
from typing import Any, Unpack

import msgspec
from msgspec import Struct, field

from hybrid_router.api.ai_gateway.asked import Asked, Given
from hybrid_router.api.ai_gateway.providers.openai import OpenAI
from hybrid_router.api.openai import reply
from hybrid_router.api.openai import sender as senders
from hybrid_router.api.openai.sender import Sender
from hybrid_router.core.asks import Painting
from hybrid_router.core.call import Call, Operation, Sampling
from hybrid_router.core.errors import CallRefused, RouterError, StreamBroken
from hybrid_router.core.event import Batch, Embedding, Picture

_PIPELINE = "/pipeline/feature-extraction"
_MOST_TEXTS = 128


class Parameters(Struct, frozen=True, kw_only=True):
    """Of all tasks together."""

    max_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: list[str] = field(default_factory=list)
    return_full_text: bool = True
    negative_prompt: str = ""
    width: int = 0
    height: int = 0
    num_inference_steps: int | None = None
    guidance_scale: float | None = None


class TaskBody(Struct, frozen=True, kw_only=True):
    """The fields that a task is made of."""

    inputs: str | list[str]
    parameters: Parameters = Parameters()
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
        kinds = [_written(fields, task), _painted(fields, task), embeds]
        return next((one for one in kinds if given.able(one.call)), kinds[0])

    def failure(self, error: RouterError) -> bytes:
        """See `asked.Provider`."""
        return msgspec.json.encode({"error": error.message})


def _written(fields: dict[str, Any], task: TaskBody) -> Asked:
    own = task.parameters
    sampling = Sampling(
        max_tokens=own.max_new_tokens,
        temperature=own.temperature,
        top_p=own.top_p,
        top_k=own.top_k,
        seed=own.seed,
        stop=tuple(own.stop),
    )
    call = Call(operation=Operation.COMPLETE, sampling=sampling, **fields)

    def document(events: Batch) -> bytes:
        choices, _ = reply.fold(call, events)
        texts = ["".join(choice.text) for choice in choices]
        if own.return_full_text:
            texts = [f"{prompt}{text}" for prompt, text in zip(call.prompts, texts, strict=True)]
        return msgspec.json.encode([{"generated_text": text} for text in texts])

    return Asked(call=call, document=document)


def _painted(fields: dict[str, Any], task: TaskBody) -> Asked:
    own = task.parameters
    ask = Painting(
        width=own.width,
        height=own.height,
        steps=own.num_inference_steps,
        guidance=own.guidance_scale,
        negative=own.negative_prompt,
    )
    call = Call(operation=Operation.IMAGE, ask=ask, sampling=Sampling(seed=own.seed), **fields)
    return Asked(call=call, document=picture, media_type=None)


def picture(events: Batch) -> bytes:
    """The one picture of an answer."""
    found = [event.content for event in events if isinstance(event, Picture) and event.partial is None]
    if not found:
        raise StreamBroken("the answer lacks a picture")
    return found[0]


def _embedded(fields: dict[str, Any], task: TaskBody) -> Asked:
    call = Call(operation=Operation.EMBED, **fields)

    def document(events: Batch) -> bytes:
        vectors = floats(call, events)
        return msgspec.json.encode(vectors[0] if isinstance(task.inputs, str) else vectors)

    return Asked(call=call, document=document)


def floats(call: Call, events: Batch) -> list[list[float]]:
    """The vectors, in the order of the prompts.  Raises StreamBroken: one is missing."""
    found = {event.index: event.values for event in events if isinstance(event, Embedding)}
    if set(found) != set(range(call.choices_count)):
        raise StreamBroken("the answer lacks a vector")
    return [list(struct.unpack(f"<{len(found[i]) // 4}f", found[i])) for i in range(len(found))]
