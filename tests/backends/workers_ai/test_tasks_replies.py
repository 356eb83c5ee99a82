"""What every task of vectors, labels and words does with a reply, good or bad."""

from __future__ import annotations

import json
from typing import Any

import pytest
from scripted_cloud import CLOSE, HOLD, Reply, a_step, answer, batches, plain
from tasks_cloud import (
    BART,
    BGE,
    DETR,
    DISTILBERT,
    GUARD,
    INDICTRANS,
    LLAVA,
    M2M100,
    M3,
    RERANKER,
    RESNET,
    classify,
    embed,
    moderate,
    picture,
    rerank,
    result,
    shown,
    talk,
    tasks_cloud,
    translate,
)

from hybrid_router.backends.readers import ANSWER_LIMIT_BYTES
from hybrid_router.core.call import Call, Message
from hybrid_router.core.errors import BackendBusy, BackendError, BackendUnavailable, CallRefused
from hybrid_router.core.event import Finish, Progress, Usage

pytestmark = pytest.mark.usefixtures("own_uploads")

COUNTS = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
BOX = {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}


def calls() -> dict[str, tuple[str, Call, Any]]:
    """A call of each task, and what a model finds."""
    words = talk(Message(role="user", content="A long story."))
    return {
        "vectors": (BGE, embed("a"), {"shape": [1, 2], "data": [[3, 4]]}),
        "relevance": (RERANKER, rerank("q", "d"), {"response": [{"id": 0, "score": 0.5}]}),
        "m3": (M3, rerank("q", "d"), {"response": [{"id": 0, "score": 0.5}]}),
        "labels": (RESNET, classify(uploads=(picture(),)), [{"label": "CAT", "score": 0.9}]),
        "boxes": (DETR, classify(uploads=(picture(),)), [{"label": "cat", "score": 0.9, "box": BOX}]),
        "mood": (DISTILBERT, classify(prompts=("a joy",)), [{"label": "POSITIVE", "score": 0.9}]),
        "description": (LLAVA, talk(shown()), {"description": "a cat"}),
        "summary": (BART, words, {"summary": "short"}),
        "translation": (M2M100, translate("house"), {"translated_text": "Haus"}),
        "translations": (INDICTRANS, translate("house", target="hi"), {"translations": ["ghar"]}),
        "verdict": (GUARD, moderate("hello"), {"response": "safe"}),
    }


NAMES = (
    "boxes",
    "description",
    "labels",
    "m3",
    "mood",
    "relevance",
    "summary",
    "translation",
    "translations",
    "vectors",
    "verdict",
)


@pytest.mark.parametrize("name", NAMES)
async def test_a_whole_answer_has_a_finish_and_the_model_was_asked_once(name: str) -> None:
    """Each task in its own words, at its model's own address."""
    model, call, found = calls()[name]
    assert set(calls()) == set(NAMES)
    async with tasks_cloud(lambda _: result(found)) as (backend, server):
        told = await answer(backend, call, model)

    assert [event for event in told if isinstance(event, Finish)] == [Finish("stop")]
    assert len(told) > 1
    assert server.paths == [f"run/{model}"]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {"boxes", "labels", "mood"}])
async def test_usage_is_told_where_the_model_tells_it(name: str) -> None:
    """As the last event."""
    model, call, found = calls()[name]
    async with tasks_cloud(lambda _: result({**found, "usage": COUNTS})) as (backend, _):
        told = await answer(backend, call, model)

    assert told[-1] == Usage(7, 2)


@pytest.mark.parametrize("name", NAMES)
async def test_an_error_in_a_200_is_an_error(name: str) -> None:
    """It is named by its code, and the next step may try."""
    model, call, _ = calls()[name]
    body = {"result": None, "success": False, "errors": [{"code": 3040, "message": "Capacity exceeded"}]}
    async with tasks_cloud(lambda _: plain(body)) as (backend, _):
        with pytest.raises(BackendBusy):
            await answer(backend, call, model)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "reply",
    [
        plain(b"not json"),
        plain(b"[" * 10_000),
        plain(b"\xff\xfe{}"),
        plain({}),
        plain(7),
        result(None),
        result("text"),
        result({}),
        result([7]),
        result([[]]),
        result(
            {
                "data": "no",
                "response": [["no"]],
                "description": 1,
                "summary": None,
                "translated_text": [],
                "translations": {},
            }
        ),
    ],
)
async def test_what_is_no_answer_is_none(name: str, reply: Reply) -> None:
    """Of another type, or nothing at all: the next step may try."""
    model, call, _ = calls()[name]
    async with tasks_cloud(lambda _: reply) as (backend, _):
        with pytest.raises(BackendError) as failed:
            await answer(backend, call, model)

    assert not isinstance(failed.value, BackendBusy)


EMPTY = {
    "vectors": {"data": [[0, 0]]},
    "relevance": {"response": []},
    "labels": [],
    "mood": [],
    "description": {"description": " \n"},
    "summary": {"summary": ""},
    "translation": {"translated_text": " "},
    "translations": {"translations": [""]},
    "verdict": {"response": ""},
}


@pytest.mark.parametrize("name", EMPTY)
async def test_an_empty_answer_is_none(name: str) -> None:
    """No vector without a direction, no score for nothing, no empty words."""
    model, call, _ = calls()[name]
    async with tasks_cloud(lambda _: result(EMPTY[name])) as (backend, _):
        with pytest.raises(BackendError):
            await answer(backend, call, model)


@pytest.mark.parametrize("name", NAMES)
async def test_an_answer_that_is_cut_off_is_none(name: str) -> None:
    """What came before does not count, however much it was."""
    model, call, found = calls()[name]
    body = json.dumps({"result": found, "success": True}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    async with tasks_cloud(lambda _: [head.encode(), body[:-2], CLOSE]) as (backend, _):
        with pytest.raises(BackendUnavailable):
            await answer(backend, call, model)


async def test_an_answer_of_another_type_is_none() -> None:
    """A proxy's page stands between."""
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"
    async with tasks_cloud(lambda _: [page]) as (backend, _):
        with pytest.raises(BackendError, match="no answer"):
            await answer(backend, embed("a"), BGE)


async def test_an_answer_without_end_is_given_up() -> None:
    """Before it fills the memory."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
    more = [b" " * 2**20] * (ANSWER_LIMIT_BYTES // 2**20 + 1)
    async with tasks_cloud(lambda _: [head, *more, CLOSE]) as (backend, _):
        with pytest.raises(BackendError, match="sent more than"):
            await answer(backend, embed("a"), BGE)


async def test_a_refusal_is_named_by_its_code() -> None:
    """An input that a model does not accept is the call's own mistake."""
    body = {"success": False, "errors": [{"code": 5006, "message": "text must not be empty"}]}
    async with tasks_cloud(lambda _: plain(body, "400 Bad Request")) as (backend, _):
        with pytest.raises(CallRefused, match="does not accept"):
            await answer(backend, embed("a"), BGE)


async def test_nothing_is_told_before_all_of_it_is_there() -> None:
    """A late request fails: the next step may try, and no answer is of two models."""
    texts = [f"text {number}" for number in range(150)]

    def some(body: Any) -> Reply:
        if len(body["text"]) < 100:
            return plain({"errors": [{"code": 3040, "message": "busy"}]}, "429 Too Many Requests")
        return result({"data": [[1, 2]] * len(body["text"])})

    async with tasks_cloud(some) as (backend, server):
        with pytest.raises(BackendBusy):
            await batches(backend, embed(*texts), BGE)
    assert sorted(len(body["text"]) for body in server.asked) == [50, 100]


async def test_who_leaves_ends_every_request() -> None:
    """Closing the answer closes each connection, and nothing goes on in the background."""
    texts = [f"house {number}" for number in range(4)]

    def some(body: Any) -> Reply:
        return result({"translated_text": "Haus"}) if body["text"] == "house 0" else [HOLD]

    async with tasks_cloud(some) as (backend, _):
        running = backend.run(translate(*texts), a_step(M2M100))
        told = await anext(running)
        await running.aclose()
    # The server waits for each of its connections to end, so it is here only if they have.
    assert told == [Progress(0.25)]
