"""Vectors and relevance: texts in, numbers out."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, TypeAlias, Unpack

import msgspec
from msgspec import Meta, Struct

from hybrid_router.api.openai import embedding_request, vectors
from hybrid_router.api.openai import sender as senders
from hybrid_router.api.openai.embedding_request import MOST_INPUTS, EmbeddingRequest
from hybrid_router.api.openai.rerank_request import MOST_DOCUMENTS
from hybrid_router.api.openai.sender import Sender
from hybrid_router.api.workers_ai.form import Given, Reply
from hybrid_router.api.workers_ai.forms import fields
from hybrid_router.api.workers_ai.forms.plain import Plain, enveloped
from hybrid_router.api.workers_ai.forms.pointer import pointed
from hybrid_router.core.asks import Encoding
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import CallRefused, StreamBroken, UnsupportedParameter
from hybrid_router.core.event import Batch, Embedding, Relevance

Input: TypeAlias = Annotated[str, Meta(min_length=1)]
Inputs: TypeAlias = Input | Annotated[list[Input], Meta(min_length=1, max_length=MOST_INPUTS)]


class _Texts(Struct, frozen=True, kw_only=True):
    text: Inputs
    pooling: Literal["mean", "cls"] | None = None
    truncate_inputs: bool = False


class _Context(Struct, frozen=True):
    text: Input


Contexts: TypeAlias = Annotated[list[_Context], Meta(min_length=1, max_length=MOST_DOCUMENTS)]


class _Compared(Struct, frozen=True, kw_only=True):
    query: Input
    contexts: Contexts
    top_k: Annotated[int, Meta(ge=1)] | None = None
    truncate_inputs: bool = False


class _Contexts(Struct, frozen=True, kw_only=True):
    contexts: Contexts
    truncate_inputs: bool = False


class _Sorted(Struct, frozen=True, kw_only=True):
    queries: Inputs | None = None
    documents: Inputs | None = None
    text: Inputs | None = None
    instruction: str | None = None


class Vectors(Plain):
    """`{"text"}` → `{"shape", "data"}`; at OpenAI's address, its form."""

    def call(self, given: Given, **sender: Unpack[Sender]) -> Call:
        """See `form.Form`."""
        if given.openai:
            with pointed():
                raw = msgspec.json.encode({**(given.body or {}), "model": given.model})
                return embedding_request.decode(raw, **sender).call
        return self._native(given, sender)

    def reply(self, given: Given, call: Call, events: Batch) -> Reply:
        """See `form.Form`."""
        if given.openai:
            return Reply(content=vectors.embeddings(_openai_request(given, call), events))
        return enveloped(self._result(given, call, _rows(call, events)))

    def _native(self, given: Given, sender: Sender) -> Call:
        asked, extra = fields.read(given, _Texts)
        if asked.pooling is not None:
            extra["pooling"] = asked.pooling
        return _embedding(given.model, asked.text, sender, extra, cuts=asked.truncate_inputs)

    def _result(self, given: Given, call: Call, rows: list[tuple[float, ...]]) -> dict[str, Any]:
        """Without the pooling: it is the model's own, and not known here."""
        return {"shape": _shape(rows), "data": rows}


class VectorsM3(Vectors):
    """The same; contexts without a query are embedded too, those with one are compared with it."""

    def reply(self, given: Given, call: Call, events: Batch) -> Reply:
        """See `form.Form`."""
        if call.operation is Operation.RERANK:
            return enveloped(_ranking(call, events, None))
        return super().reply(given, call, events)

    def _native(self, given: Given, sender: Sender) -> Call:
        body = given.body or {}
        if "query" in body:
            return _comparison(given, sender)
        if "contexts" not in body:
            return super()._native(given, sender)
        asked, extra = fields.read(given, _Contexts)
        texts = [context.text for context in asked.contexts]
        return _embedding(given.model, texts, sender, extra, cuts=asked.truncate_inputs)

    def _result(self, given: Given, call: Call, rows: list[tuple[float, ...]]) -> dict[str, Any]:
        if "contexts" in (given.body or {}):
            return {"response": rows, "shape": _shape(rows)}
        return super()._result(given, call, rows)


class VectorsQwen(Vectors):
    """The same; queries and documents are embedded each in their way."""

    def _native(self, given: Given, sender: Sender) -> Call:
        asked, extra = fields.read(given, _Sorted)
        kinds = [name for name in ("queries", "documents", "text") if getattr(asked, name) is not None]
        if not kinds:
            raise CallRefused("required properties at '/' are 'text', 'queries' or 'documents'", param="/")
        if len(kinds) > 1:
            raise UnsupportedParameter(f"'/{kinds[1]}': not together with '{kinds[0]}'", param=f"/{kinds[1]}")
        if asked.instruction is not None:
            extra["instruction"] = asked.instruction
        call = _embedding(given.model, getattr(asked, kinds[0]), sender, extra)
        if asked.text is not None:
            return call
        ask = Encoding(purpose="query" if asked.queries is not None else "document")
        return msgspec.structs.replace(call, ask=ask)


class Ranking(Plain):
    """A query and contexts → which of them answer it."""

    def call(self, given: Given, **sender: Unpack[Sender]) -> Call:
        """See `form.Form`."""
        return _comparison(given, sender)

    def reply(self, given: Given, call: Call, events: Batch) -> Reply:
        """See `form.Form`."""
        return enveloped(_ranking(call, events, (given.body or {}).get("top_k")))


def _embedding(
    model: str, texts: str | list[str], sender: Sender, extra: dict[str, Any], *, cuts: bool = False
) -> Call:
    return Call(
        operation=Operation.EMBED,
        alias=model,
        prompts=(texts,) if isinstance(texts, str) else tuple(texts),
        truncate="end" if cuts else None,
        **senders.fields(sender, extra),
    )


def _comparison(given: Given, sender: Sender) -> Call:
    asked, extra = fields.read(given, _Compared)
    return Call(
        operation=Operation.RERANK,
        alias=given.model,
        prompts=tuple(context.text for context in asked.contexts),
        query=asked.query,
        truncate="end" if asked.truncate_inputs else None,
        **senders.fields(sender, extra),
    )


def _rows(call: Call, events: Batch) -> list[tuple[float, ...]]:
    return [vectors.floats(vector.values) for vector in vectors.each(call, events, Embedding)]


def _shape(rows: list[tuple[float, ...]]) -> list[int]:
    return [len(rows), len(rows[0]) if rows else 0]


def _ranking(call: Call, events: Batch, top_k: Any) -> dict[str, Any]:
    """Places in `contexts`, the best first, equals in the order they came."""
    scores = vectors.each(call, events, Relevance)
    if not all(math.isfinite(one.score) for one in scores):
        raise StreamBroken("the model gave a score that is no number")
    best = sorted(scores, key=lambda one: -one.score)[: int(top_k) if top_k else None]
    return {"response": [{"id": one.index, "score": one.score} for one in best]}


def _openai_request(given: Given, call: Call) -> EmbeddingRequest:
    """How the client wants to read the vectors; `call` was decoded from the same body."""
    body = given.body or {}
    told = msgspec.structs.replace(call, alias=given.model)
    return EmbeddingRequest(told, body.get("encoding_format") == "base64", body.get("dimensions"))
