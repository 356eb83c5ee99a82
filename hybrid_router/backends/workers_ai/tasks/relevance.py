"""Documents compared with a query.  Each score is its document's own, so many go in several requests."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from msgspec import Struct

from hybrid_router.backends.chunks import Counts
from hybrid_router.backends.errand import Unreadable
from hybrid_router.backends.workers_ai.tasks import bodies, counts, results
from hybrid_router.backends.workers_ai.tasks.pieces import Piece, portions, texts
from hybrid_router.backends.workers_ai.tasks.task import Asked
from hybrid_router.backends.workers_ai.tasks.vectors import check_truncation
from hybrid_router.catalogue.families import Family
from hybrid_router.core.event import Batch, Finish, Relevance

MOST_DOCUMENTS = 100


class _Score(Struct, gc=False):
    id: float  # a number, says the schema: the document's place
    score: float


class _Scores(Struct, gc=False):
    response: list[_Score]
    usage: Counts | None = None


def write(asked: Asked) -> list[Piece]:
    """The requests for a call's documents.

    Raises:
        Inexpressible: one is token ids, or may lose something else than its end.
    """
    check_truncation(asked.call)
    return [
        Piece(
            bodies.document(asked.model, document(asked, some)), partial(decode, first=first, count=len(some))
        )
        for first, some in portions(texts(asked.call, "documents"), MOST_DOCUMENTS)
    ]


def document(asked: Asked, some: Sequence[str]) -> dict[str, Any]:
    """The body for some documents: all of their scores are wanted."""
    shared = {"query": asked.call.query, "contexts": [{"text": text} for text in some]}
    if asked.family is Family.VECTORS_M3:
        return {**shared, "truncate_inputs": asked.call.truncate is not None}
    return {**shared, "top_k": len(some)}


def decode(body: bytes, *, first: int, count: int) -> Batch:
    """The scores of `count` documents, which come by their height, in the documents' order.

    Raises:
        Unreadable: they are not that.
    """
    told = results.read(body, _Scores, "scores")
    scores = {row.id: row.score for row in told.response}
    if len(scores) < len(told.response) or not scores.keys() <= set(range(count)):
        raise Unreadable("sent scores for other documents than were asked about")
    if len(scores) < count:
        raise Unreadable(f"sent {len(scores)} scores for {count} documents")
    batch: Batch = []
    for place in range(count):
        batch += [Relevance(scores[place], first + place), Finish("stop", first + place)]
    return [*batch, *counts.usage(told.usage)]
