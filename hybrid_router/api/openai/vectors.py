"""Replies of embedding and rerank calls: one document each."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any, TypeVar

import msgspec

from hybrid_router.api.openai.embedding_request import EmbeddingRequest
from hybrid_router.api.openai.reply import unasked
from hybrid_router.api.openai.rerank_request import RerankRequest
from hybrid_router.core.call import Call
from hybrid_router.core.errors import CallRefused, StreamBroken
from hybrid_router.core.event import Batch, Embedding, Relevance, Usage

T = TypeVar("T", Embedding, Relevance)
_FLOAT_BYTES = 4


def embeddings(asked: EmbeddingRequest, events: Batch) -> bytes:
    """The list of vectors, in the order of the inputs.

    Raises:
        CallRefused: `dimensions` are more than the model's.
        StreamBroken: a vector is missing.
    """
    call = asked.call
    data = []
    for vector in each(call, events, Embedding):
        values = vector.values if asked.dimensions is None else _shortened(vector.values, asked.dimensions)
        written = base64.b64encode(values).decode() if asked.base64 else floats(values)
        one: dict[str, Any] = {"object": "embedding", "index": vector.index, "embedding": written}
        data.append({**one, "truncated": True} if vector.truncated else one)
    return _document({"object": "list", "data": data, "model": call.alias}, events)


def ranking(asked: RerankRequest, events: Batch) -> bytes:
    """The documents' places, the most relevant first, equals in the order they came.

    Raises:
        StreamBroken: a score is missing, or is no number.
    """
    call = asked.call
    scores = each(call, events, Relevance)
    if not all(math.isfinite(one.score) for one in scores):
        raise StreamBroken("the model gave a score that is no number")
    best = sorted(scores, key=lambda one: -one.score)[: asked.top_n]
    results = [_result(one) for one in best]
    if asked.return_documents:
        for result in results:
            result["document"] = {"text": call.prompts[result["index"]]}
    return _document({"id": call.id, "object": "list", "model": call.alias, "results": results}, events)


def _result(one: Relevance) -> dict[str, Any]:
    told: dict[str, Any] = {"index": one.index, "relevance_score": one.score}
    return {**told, "truncated": True} if one.truncated else told


def each(call: Call, events: Batch, kind: type[T]) -> list[T]:
    """The event of this kind of every prompt, in their order.

    Raises:
        StreamBroken: one is missing, or was not asked for.
    """
    found = {event.index: event for event in events if isinstance(event, kind)}
    if any(not 0 <= index < call.choices_count for index in found):
        raise unasked()
    if len(found) < call.choices_count:
        raise StreamBroken("the answer lacks what was asked for of some inputs")
    return [found[index] for index in range(call.choices_count)]


def floats(values: bytes) -> tuple[float, ...]:
    """A vector's numbers."""
    return struct.unpack(f"<{len(values) // _FLOAT_BYTES}f", values)


def _shortened(values: bytes, dimensions: int) -> bytes:
    """The first `dimensions` numbers, of length 1 again.

    Source: Kusupati et al. 2022, "Matryoshka Representation Learning": a model that is trained for it says
    most in the first numbers.  Of another, the shorter vector is as well-formed and worth less.
    """
    width = len(values) // _FLOAT_BYTES
    if dimensions > width:
        raise CallRefused(f"dimensions: this model's vectors have {width}", param="dimensions")
    kept = floats(values[: dimensions * _FLOAT_BYTES])
    length = math.sqrt(math.fsum(value * value for value in kept)) or 1.0
    return struct.pack(f"<{dimensions}f", *(value / length for value in kept))


def _document(told: dict[str, Any], events: Batch) -> bytes:
    """With usage, if somebody counted: all tokens are the prompt's."""
    usage = next((event for event in reversed(events) if isinstance(event, Usage)), None)
    if usage is not None:
        told["usage"] = {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens}
    return msgspec.json.encode(told)
