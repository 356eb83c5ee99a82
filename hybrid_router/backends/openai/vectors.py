"""Embeddings and rankings."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from hybrid_router.backends.errand import Errand, Reader, Unreadable
from hybrid_router.backends.openai.chat import Manner, extra
from hybrid_router.backends.openai.reply import TokenCounts, each_finished, read
from hybrid_router.backends.readers import Whole
from hybrid_router.backends.vectors import embedding
from hybrid_router.core.asks import Encoding
from hybrid_router.core.call import Call
from hybrid_router.core.errors import Inexpressible
from hybrid_router.core.event import Batch, Relevance

_FLOAT_BYTES = 4


class _Vector(Struct, gc=False):
    embedding: str | list[float]
    index: int | None = None


class _Vectors(Struct):
    data: list[_Vector]
    usage: TokenCounts | None = None


class _Result(Struct, gc=False):
    index: int
    relevance_score: float | None = None
    score: float | None = None


class _Ranking(Struct):
    results: list[_Result]
    usage: TokenCounts | None = None


def embeddings(call: Call, model: str, manner: Manner) -> list[tuple[Errand, Reader]]:
    """One request for all texts."""
    inputs = [each if isinstance(each, str) else list(each) for each in call.prompts]
    fields: dict[str, Any] = {"model": model, "input": inputs, "encoding_format": "base64"}
    if isinstance(call.ask, Encoding):
        fields |= _purpose(call.ask, manner)
    errand = Errand(path="embeddings", body=msgspec.json.encode({**fields, **extra(call, manner)}))
    return [(errand, Whole(lambda body: _embedded(body, len(inputs))))]


def ranking(call: Call, model: str, manner: Manner) -> list[tuple[Errand, Reader]]:
    """One request for all documents, in the form of Jina, Cohere, vLLM and llama-server."""
    fields = {"model": model, "query": call.query, "documents": list(call.prompts)}
    errand = Errand(path="rerank", body=msgspec.json.encode({**fields, **extra(call, manner)}))
    return [(errand, Whole(lambda body: _ranked(body, len(call.prompts))))]


def _purpose(ask: Encoding, manner: Manner) -> dict[str, str]:
    """What Cohere's, Voyage's and our own servers call it."""
    if ask.prompt_name is not None:
        raise Inexpressible(f"{manner.label} takes no `prompt_name`")
    return {} if ask.purpose is None or manner.strict else {"input_type": ask.purpose}


def _embedded(body: bytes, count: int) -> Batch:
    told = read(body, _Vectors)
    found = {place if one.index is None else one.index: one for place, one in enumerate(told.data)}
    if found.keys() != set(range(count)):
        raise Unreadable(f"gave vectors of {len(found)} texts, and {count} were asked for")
    events: Batch = [embedding(_values(found[index].embedding), index) for index in range(count)]
    return [*events, *each_finished(count, told.usage)]


def _values(written: str | list[float]) -> Sequence[float]:
    """Numbers, or their bytes in base64."""
    if isinstance(written, list):
        return written
    try:
        raw = base64.b64decode(written, validate=True)
        return struct.unpack(f"<{len(raw) // _FLOAT_BYTES}f", raw)
    except (ValueError, struct.error) as error:
        raise Unreadable("sent a vector that is none", detail=str(error)) from None


def _ranked(body: bytes, count: int) -> Batch:
    told = read(body, _Ranking)
    scores = {
        one.index: score
        for one in told.results
        if (score := one.score if one.relevance_score is None else one.relevance_score) is not None
    }
    if scores.keys() != set(range(count)):
        raise Unreadable(f"ranked {len(scores)} documents of {count}")
    events: Batch = [Relevance(scores[index], index) for index in range(count)]
    return [*events, *each_finished(count, told.usage)]
