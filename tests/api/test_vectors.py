"""Embeddings and rerankings: what is read, and what is answered."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import openai
import pytest
from scripted_answers import ScriptedAnswers, listening, post

from hybrid_router.api.openai import embedding_request, rerank_request, vectors
from hybrid_router.api.openai.embedding_request import EmbeddingRequest
from hybrid_router.api.openai.rerank_request import RerankRequest
from hybrid_router.core.call import Operation
from hybrid_router.core.errors import CallRefused, StreamBroken
from hybrid_router.core.event import Batch, Embedding, Event, Finish, Relevance, Usage


def to_embed(**fields: Any) -> EmbeddingRequest:
    """A minimal embedding request with these fields set."""
    body = msgspec.json.encode({"model": "fast", "input": "hello", **fields})
    return embedding_request.decode(body, call_id="embd-1", principal="me", headers={})


def to_rank(**fields: Any) -> RerankRequest:
    """A minimal rerank request with these fields set."""
    body = msgspec.json.encode({"model": "fast", "query": "what", "documents": ["a", "b", "c"], **fields})
    return rerank_request.decode(body, call_id="rank-1", principal="me", headers={})


def embedded(*rows: tuple[float, ...]) -> Batch:
    """A whole answer with these vectors."""
    said: list[Event] = []
    for index, row in enumerate(rows):
        said += [Embedding(struct.pack(f"<{len(row)}f", *row), index), Finish("stop", index)]
    return [*said, Usage(7, 0)]


def ranked(*scores: float) -> Batch:
    """A whole answer with these scores."""
    said: list[Event] = []
    for index, score in enumerate(scores):
        said += [Relevance(score, index), Finish("stop", index)]
    return [*said, Usage(9, 0)]


@pytest.mark.parametrize(
    ("given", "prompts"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
    ],
)
def test_inputs_take_four_forms(given: Any, prompts: tuple[Any, ...]) -> None:
    """A text, texts, tokens, or lists of tokens: a prompt and a choice for each."""
    call = to_embed(input=given).call

    assert (call.operation, call.prompts, call.choices_count) == (Operation.EMBED, prompts, len(prompts))
    assert not call.stream


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": None}, "input"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": "all"}, "dimensions"),
        ({"truncate": 5}, "truncate"),
        ({"model": ""}, "model"),
    ],
)
def test_a_wrong_embedding_request_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    """Every field that is wrong is named."""
    with pytest.raises(CallRefused) as caught:
        to_embed(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"query": ""}, "query"),
        ({"query": None}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": ["a"] * 1025}, "documents"),
        ({"documents": [1]}, "documents[0]"),
        ({"documents": [{"body": "a"}]}, "documents[0].text"),
        ({"top_n": 0}, "top_n"),
        ({"return_documents": "yes"}, "return_documents"),
    ],
)
def test_a_wrong_rerank_request_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    """Every field that is wrong is named."""
    with pytest.raises(CallRefused) as caught:
        to_rank(**fields)
    assert caught.value.param == param


def test_documents_take_two_forms() -> None:
    """Texts, and objects that hold one."""
    call = to_rank(documents=["a", {"text": "b"}]).call

    assert (call.operation, call.query, call.prompts) == (Operation.RERANK, "what", ("a", "b"))


def test_vectors_come_in_the_order_of_the_inputs() -> None:
    """Whatever order a backend answers in."""
    asked = to_embed(input=["a", "b"])
    told = msgspec.json.decode(vectors.embeddings(asked, list(reversed(embedded((1, 0), (0, 1))))))

    assert [(one["index"], one["embedding"]) for one in told["data"]] == [(0, [1, 0]), (1, [0, 1])]
    assert (told["object"], told["model"]) == ("list", "fast")
    assert told["usage"] == {"prompt_tokens": 7, "total_tokens": 7}


def test_base64_holds_the_same_numbers() -> None:
    """Little-endian 32-bit floats, as the official clients ask for unless told otherwise."""
    told = msgspec.json.decode(vectors.embeddings(to_embed(encoding_format="base64"), embedded((0.6, 0.8))))

    assert base64.b64decode(told["data"][0]["embedding"]) == struct.pack("<2f", 0.6, 0.8)


def test_fewer_dimensions_are_a_unit_vector_again() -> None:
    """The first numbers are kept and brought to length 1; a vector of zeros stays one."""
    asked = to_embed(input=["a", "b"], dimensions=2)
    told = msgspec.json.decode(vectors.embeddings(asked, embedded((0.3, 0.4, 0.5), (0, 0, 1))))

    assert told["data"][0]["embedding"] == pytest.approx([0.6, 0.8])
    assert math.hypot(*told["data"][0]["embedding"]) == pytest.approx(1)
    assert told["data"][1]["embedding"] == [0, 0]


def test_more_dimensions_than_there_are_is_the_callers_mistake() -> None:
    """The model's width is named."""
    with pytest.raises(CallRefused, match="have 3") as caught:
        vectors.embeddings(to_embed(dimensions=4), embedded((0.3, 0.4, 0.5)))
    assert caught.value.param == "dimensions"


def test_an_answer_that_lacks_a_vector_is_broken() -> None:
    """Nothing is made up: not a vector, not a score, not a place."""
    with pytest.raises(StreamBroken):
        vectors.embeddings(to_embed(input=["a", "b"]), embedded((1, 0)))
    with pytest.raises(StreamBroken):
        vectors.embeddings(to_embed(), embedded((1, 0), (0, 1)))
    with pytest.raises(StreamBroken):
        vectors.ranking(to_rank(), ranked(1, 2, math.nan))


def test_the_most_relevant_comes_first() -> None:
    """Sorted by score, equals as they came, at most `top_n`; `index` is the place in the request."""
    told = msgspec.json.decode(vectors.ranking(to_rank(), ranked(-1.5, 2.0, 2.0)))
    short = msgspec.json.decode(vectors.ranking(to_rank(top_n=1, return_documents=True), ranked(0, 3, 1)))

    assert told["results"] == [
        {"index": 1, "relevance_score": 2.0},
        {"index": 2, "relevance_score": 2.0},
        {"index": 0, "relevance_score": -1.5},
    ]
    assert told["usage"] == {"prompt_tokens": 9, "total_tokens": 9}
    assert short["results"] == [{"index": 1, "relevance_score": 3.0, "document": {"text": "b"}}]


@pytest.fixture
async def port() -> AsyncGenerator[tuple[ScriptedAnswers, int]]:
    """A router whose model gives two vectors and two scores."""
    answers = ScriptedAnswers([embedded((0.6, 0.8), (1, 0)), [Relevance(0.25, 0), Relevance(0.75, 1)]])
    async with listening(answers) as listener:
        yield answers, listener.port


async def test_the_official_client_embeds(port: tuple[ScriptedAnswers, int]) -> None:
    """Its own way (base64), and as floats; the caller is the call's principal."""
    answers, number = port
    async with openai.AsyncOpenAI(
        base_url=f"http://127.0.0.1:{number}/v1", api_key="any", max_retries=0
    ) as client:
        told = await client.embeddings.create(model="fast", input=["a", "b"], user="u")
        plain = await client.embeddings.create(model="fast", input=["a", "b"], encoding_format="float")

    assert told.data[0].embedding == pytest.approx([0.6, 0.8])
    assert [one.embedding for one in told.data] == [one.embedding for one in plain.data]
    assert told.usage.total_tokens == 7
    assert [call.path for call in answers.calls] == ["/v1/embeddings"] * 2


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank"])
async def test_rerank_has_two_addresses(port: tuple[ScriptedAnswers, int], path: str) -> None:
    """Jina's and Cohere's clients, and llama-server's, find it."""
    answers, number = port
    reply = await post(number, path, {"model": "fast", "query": "q", "documents": ["a", "b"]})

    assert reply.status == 200
    assert [one["index"] for one in reply.json["results"]] == [1, 0]
    assert answers.calls[0].path == path


async def test_a_wrong_width_is_a_400(port: tuple[ScriptedAnswers, int]) -> None:
    """What only the answer shows to be wrong is told like what the request shows."""
    reply = await post(port[1], "/v1/embeddings", {"model": "fast", "input": ["a", "b"], "dimensions": 9})

    assert (reply.status, reply.error["param"]) == (400, "dimensions")


async def test_their_plans_can_be_explained(port: tuple[ScriptedAnswers, int]) -> None:
    """`/router/explain` tells the kinds of body from each other by their fields."""
    answers, number = port
    await post(number, "/router/explain", {"model": "fast", "input": "a"})
    await post(number, "/router/explain", {"model": "fast", "query": "q", "documents": ["a"]})

    assert [call.operation for call in answers.explained] == [Operation.EMBED, Operation.RERANK]
