"""Vectors and scores of Workers AI: what is asked, and what its answers become."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_cloud import Reply, answer, batches
from tasks_cloud import (
    BGE,
    GEMMA,
    M3,
    QWEN,
    RERANKER,
    asked_of,
    embed,
    rerank,
    result,
    tasks_cloud,
)

from hybrid_router.backends.errand import Unreadable
from hybrid_router.backends.workers_ai.tasks import relevance, vectors
from hybrid_router.core.asks import Encoding, EncodingPurpose
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import BackendError, Inexpressible
from hybrid_router.core.event import Embedding, Finish, Progress, Relevance, Usage


def numbers(vector: Embedding) -> tuple[float, ...]:
    return struct.unpack(f"<{len(vector.values) // 4}f", vector.values)


@pytest.mark.parametrize(
    ("model", "purpose", "wanted"),
    [
        (BGE, None, {"text": ["a"], "pooling": "cls"}),
        (BGE, "query", {"text": ["a"], "pooling": "cls"}),
        (M3, None, {"text": ["a"], "truncate_inputs": False}),
        (GEMMA, "document", {"text": ["a"]}),
        ("@cf/pfnet/plamo-embedding-1b", None, {"text": ["a"]}),
        (QWEN, None, {"text": ["a"]}),
        (QWEN, "query", {"queries": ["a"]}),
        (QWEN, "document", {"documents": ["a"]}),
        (QWEN, "classification", {"queries": ["a"], "instruction": "Classify the text"}),
        (QWEN, "clustering", {"queries": ["a"], "instruction": "Identify the topic or theme of the text"}),
    ],
)
def test_each_family_is_asked_in_its_own_words(
    model: str, purpose: EncodingPurpose | None, wanted: dict[str, Any]
) -> None:
    """Only bge is told how to pool, only Qwen3 what a text is for."""
    call = embed("a", ask=Encoding(purpose=purpose))

    assert vectors.document(asked_of(model, call, pooling="cls"), ["a"]) == wanted


def test_a_long_text_may_lose_its_end() -> None:
    """Where the model asks whether it may."""
    asked = asked_of(M3, embed("a", truncate="end"))

    assert vectors.document(asked, ["a"])["truncate_inputs"] is True
    assert (
        relevance.document(asked_of(M3, rerank("q", "d", truncate="end")), ["d"])["truncate_inputs"] is True
    )


@pytest.mark.parametrize(
    ("call", "param"),
    [
        (embed((1, 2)), "input"),
        (embed("a", truncate="middle"), "truncate"),
        (embed("a", ask=Encoding(prompt_name="search")), "prompt_name"),
    ],
)
def test_what_nobody_there_knows_is_not_asked(call: Call, param: str) -> None:
    """Another backend may have the words."""
    with pytest.raises(Inexpressible) as refused:
        vectors.write(asked_of(BGE, call))

    assert refused.value.param == param


@given(st.lists(st.floats(-1e300, 1e300).filter(lambda value: abs(value) > 1e-300), min_size=1, max_size=8))
def test_every_vector_has_length_1(row: list[float]) -> None:
    """Whatever the model's own length is."""
    [vector, finish] = vectors.decode(b'{"result":{"data":[%s]}}' % str(row).encode(), first=3, count=1)

    assert isinstance(vector, Embedding)
    assert math.isclose(math.hypot(*numbers(vector)), 1, rel_tol=1e-6)
    assert (vector.index, finish) == (3, Finish("stop", 3))


@pytest.mark.parametrize(
    "data", ["[[1,2]]", "[[1],[2],[3]]", "[[1,null],[1,2]]", "[[],[]]", "[[0,0],[1,1]]", "[[1e999,1],[1,1]]"]
)
def test_vectors_that_are_none_are_refused(data: str) -> None:
    """Too few, too many, without numbers or without a direction."""
    with pytest.raises(Unreadable):
        vectors.decode(f'{{"result":{{"data":{data}}}}}'.encode(), first=0, count=2)


async def test_many_texts_go_in_hundreds_and_come_back_in_order() -> None:
    """Several requests run at once; whoever waits sees that they are worked on."""

    def some(body: Any) -> Reply:
        rows = [[1, int(text)] for text in body["text"]]
        counts = {"prompt_tokens": len(rows), "total_tokens": len(rows)}
        return result({"data": rows, "shape": [len(rows), 2], "usage": counts})

    texts = [str(number) for number in range(250)]
    async with tasks_cloud(some) as (backend, server):
        told = await batches(backend, embed(*texts), BGE)

    assert sorted(len(body["text"]) for body in server.asked) == [50, 100, 100]
    *signs, whole = told
    assert all(isinstance(event, Progress) for batch in signs for event in batch)
    found = [event for event in whole if isinstance(event, Embedding)]
    assert [event.index for event in found] == list(range(250))
    assert all(math.isclose(y / x, event.index, rel_tol=1e-5) for event in found for x, y in [numbers(event)])
    assert sum(isinstance(event, Finish) for event in whole) == 250
    assert whole[-1] == Usage(250, 0)


async def test_usage_that_is_told_for_a_part_alone_is_not_told() -> None:
    """A sum that lacks something would be wrong."""

    def some(body: Any) -> Reply:
        told = {"usage": {"prompt_tokens": 5}} if len(body["text"]) == 100 else {}
        return result({"data": [[1, 2]] * len(body["text"]), **told})

    async with tasks_cloud(some) as (backend, _):
        told = await answer(backend, embed(*["a"] * 101), BGE)

    assert not any(isinstance(event, Usage) for event in told)


async def test_vectors_of_two_lengths_are_no_answer() -> None:
    """They could not be compared."""
    async with tasks_cloud(lambda body: result({"data": [[1] * len(body["text"])] * len(body["text"])})) as (
        backend,
        _,
    ):
        with pytest.raises(BackendError, match="of 1 and of 100 numbers"):
            await answer(backend, embed(*["a"] * 101), BGE)


async def test_scores_come_back_in_the_documents_order() -> None:
    """They are sent by their height, in hundreds, with a document's place in its request."""

    def some(body: Any) -> Reply:
        assert body["query"] == "q"
        assert body["top_k"] == len(body["contexts"])
        scores = [{"id": place, "score": float(one["text"])} for place, one in enumerate(body["contexts"])]
        return result({"response": sorted(scores, key=lambda row: -row["score"])})

    heights = [place * 37 % 150 / 200 for place in range(150)]
    async with tasks_cloud(some) as (backend, _):
        told = await answer(backend, rerank("q", *map(str, heights)), RERANKER)

    assert [event.score for event in told if isinstance(event, Relevance)] == heights
    assert [event.index for event in told if isinstance(event, Relevance)] == list(range(150))
    assert sum(isinstance(event, Finish) for event in told) == 150


def test_a_model_of_vectors_ranks_with_a_query() -> None:
    """It knows no `top_k`: all scores come anyway."""
    asked = asked_of(M3, rerank("q", "a", "b"))

    assert relevance.document(asked, ["a", "b"]) == {
        "query": "q",
        "contexts": [{"text": "a"}, {"text": "b"}],
        "truncate_inputs": False,
    }


@pytest.mark.parametrize(
    "rows",
    [
        [{"id": 0, "score": 0.1}],
        [{"id": 0, "score": 0.1}, {"id": 0, "score": 0.2}],
        [{"id": 0, "score": 0.1}, {"id": 2, "score": 0.2}],
        [{"id": 0, "score": 0.1}, {"id": 0.5, "score": 0.2}],
        [{"id": 0, "score": 0.1}, {"id": -1, "score": 0.2}],
        [{"id": 0, "score": 0.1}, {"id": 1, "score": None}],
    ],
)
async def test_a_ranking_that_lacks_a_document_is_none(rows: Any) -> None:
    """Nobody takes a missing score for a low one."""
    async with tasks_cloud(lambda _: result({"response": rows})) as (backend, _):
        with pytest.raises(BackendError):
            await answer(backend, rerank("q", "a", "b"), RERANKER)


async def test_documents_as_token_ids_are_not_asked() -> None:
    """Nothing is sent."""
    async with tasks_cloud(lambda _: result({})) as (backend, server):
        with pytest.raises(Inexpressible, match="token ids"):
            await answer(backend, rerank("q", (1, 2)), RERANKER)
    assert server.asked == []


async def test_what_models_can_be_asked_is_what_they_do() -> None:
    """A model of vectors writes no text, and only the one that compares also ranks."""
    async with tasks_cloud(lambda _: result({})) as (backend, _):
        assert backend.operations(BGE) == {Operation.EMBED}
        assert backend.operations(M3) == {Operation.EMBED, Operation.RERANK}
        assert backend.operations(RERANKER) == {Operation.RERANK}
        assert backend.features(BGE) == frozenset()
