"""Answers in one piece, asked for or not."""

from __future__ import annotations

import pytest
from scripted_cloud import answer, chat, cloud, plain

from hybrid_router.core.event import Finish, Text, Usage

DONE = b"[DONE]"


def counts(prompt: int, completion: int, **more: object) -> dict[str, object]:
    """A usage object."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        **more,
    }


PLAIN = {
    "native": {
        "result": {"response": "hi", "usage": counts(9, 2)},
        "success": True,
        "errors": [],
        "messages": [],
    },
    "native-chat": {
        "result": {
            "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}],
            "usage": counts(9, 2),
        }
    },
    "v1": {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": counts(9, 2)},
    "completion": {"result": {"choices": [{"text": "hi", "finish_reason": "stop"}], "usage": counts(9, 2)}},
}


@pytest.mark.parametrize("name", PLAIN)
async def test_a_plain_answer_to_a_streamed_request_is_understood(name: str) -> None:
    """Some models do not stream though they were asked to."""
    async with cloud(plain(PLAIN[name])) as (backend, upstream):
        told = await answer(backend, chat())

    assert told == [Text("hi"), Finish("stop"), Usage(9, 2)]
    assert upstream.requests[0][2]["stream"] is True


async def test_json_mode_is_asked_for_without_a_stream_and_its_object_is_text() -> None:
    """Classic models cannot stream JSON mode; they answer with an object, the client gets its text."""
    document = {"result": {"response": {"a": [1, "ü"]}}, "success": True}
    async with cloud(plain(document), chat_endpoint="run") as (backend, upstream):
        told = await answer(backend, chat(response_format={"type": "json_object"}))

    assert told == [Text('{"a":[1,"ü"]}'), Finish("stop")]
    assert upstream.requests[0][2]["stream"] is False


async def test_an_empty_plain_answer_to_a_stream_is_asked_for_again_without() -> None:
    """Some models have nothing to say to `stream: true`."""
    empty = plain({"result": {}, "success": True, "errors": []})
    async with cloud(empty, plain(PLAIN["native"])) as (backend, upstream):
        told = await answer(backend, chat())

    assert told == [Text("hi"), Finish("stop"), Usage(9, 2)]
    assert [body["stream"] for _, _, body in upstream.requests] == [True, False]
