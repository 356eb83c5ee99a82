"""Texts embedded.  A request takes a hundred of them at most; no limit is published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from hybrid_router.backends.chunks import Counts
from hybrid_router.backends.errand import Unreadable
from hybrid_router.backends.vectors import embedding
from hybrid_router.backends.workers_ai.tasks import bodies, counts, results
from hybrid_router.backends.workers_ai.tasks.pieces import Piece, portions, texts
from hybrid_router.backends.workers_ai.tasks.task import Asked
from hybrid_router.catalogue.families import Family
from hybrid_router.core.asks import Encoding
from hybrid_router.core.call import Call
from hybrid_router.core.errors import BackendError, Inexpressible
from hybrid_router.core.event import Batch, Embedding, Finish

MOST_TEXTS = 100
_FLOAT_BYTES = 4
_POOLED = "@cf/baai/bge-"  # the models that can be told how: others pool as they were made to
# What a text is compared by, where it is no search.  Only queries take an instruction.
_INSTRUCTIONS: Mapping[str, str] = MappingProxyType({
    "classification": "Classify the text",
    "clustering": "Identify the topic or theme of the text",
})  # fmt: skip


class _Vectors(Struct, gc=False):
    data: list[list[float]]
    usage: Counts | None = None


def write(asked: Asked) -> list[Piece]:
    """The requests for a call's texts.

    Raises:
        Inexpressible: a text is token ids, or something is asked for that no model there knows.
    """
    call = asked.call
    check_truncation(call)
    if isinstance(call.ask, Encoding) and call.ask.prompt_name is not None:
        raise Inexpressible("Workers AI's models have no prompts by name", param="prompt_name")
    return [
        Piece(
            bodies.document(asked.model, document(asked, some)), partial(decode, first=first, count=len(some))
        )
        for first, some in portions(texts(call), MOST_TEXTS)
    ]


def document(asked: Asked, some: Sequence[str]) -> dict[str, Any]:
    """The body for some texts, by the model's family."""
    if asked.family is Family.VECTORS_QWEN:
        return _by_purpose(asked.call, some)
    if asked.family is Family.VECTORS_M3:
        return {"text": some, "truncate_inputs": asked.call.truncate is not None}
    if asked.model.startswith(_POOLED):
        return {"text": some, "pooling": asked.config.pooling}
    return {"text": some}


def _by_purpose(call: Call, some: Sequence[str]) -> dict[str, Any]:
    """Qwen3 puts something before a query, and nothing before a document."""
    purpose = call.ask.purpose if isinstance(call.ask, Encoding) else None
    match purpose:
        case None:
            return {"text": some}
        case "query":
            return {"queries": some}
        case "document":
            return {"documents": some}
    return {"queries": some, "instruction": _INSTRUCTIONS[purpose]}


def check_truncation(call: Call) -> None:
    """Refuse what nobody there does: what is too long loses its end.

    Raises:
        Inexpressible: another part may be left out.
    """
    if call.truncate not in (None, "end"):
        raise Inexpressible("Workers AI leaves out nothing but a text's end", param="truncate")


def decode(body: bytes, *, first: int, count: int) -> Batch:
    """The vectors of `count` texts, of which the first is the call's `first`.

    Raises:
        Unreadable: they are not that.
    """
    told = results.read(body, _Vectors, "vectors")
    if len(told.data) != count:
        raise Unreadable(f"sent {len(told.data)} vectors for {count} texts")
    batch: Batch = []
    for index, row in enumerate(told.data, first):
        batch += [embedding(row, index), Finish("stop", index)]
    return [*batch, *counts.usage(told.usage)]


def check(answer: Batch) -> None:
    """Refuse vectors that cannot be compared.

    Raises:
        BackendError: they are of several lengths.
    """
    widths = {len(event.values) // _FLOAT_BYTES for event in answer if isinstance(event, Embedding)}
    if len(widths) > 1:
        raise BackendError(f"Workers AI sent vectors of {min(widths)} and of {max(widths)} numbers")
