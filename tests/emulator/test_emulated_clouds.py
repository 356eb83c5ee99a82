"""What the emulators of all other clouds have in common."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from hybrid_router.emulator import anthropic, huggingface, openai, replicate
from hybrid_router.emulator.fault import Fault
from hybrid_router.emulator.settings import DEFAULT_TOKEN, Settings
from hybrid_router.emulator.stage import RunningCloud

Serve = Callable[[Settings], AbstractAsyncContextManager[RunningCloud]]
SAID = [{"role": "user", "content": "count to 3"}]
CHAT = {"model": "m", "messages": SAID, "max_tokens": 9}
CLOUDS = pytest.mark.parametrize(
    ("serve", "path", "body"),
    [
        pytest.param(openai.serve, "/v1/chat/completions", CHAT, id="openai"),
        pytest.param(huggingface.serve, "/v1/chat/completions", CHAT, id="huggingface"),
        pytest.param(
            huggingface.serve, "/hf-inference/models/o/text-generation", {"inputs": "hi"}, id="tasks"
        ),
        pytest.param(anthropic.serve, "/v1/messages", CHAT, id="anthropic"),
        pytest.param(
            replicate.serve, "/v1/models/o/n/predictions", {"input": {"prompt": "hi"}}, id="replicate"
        ),
    ],
)


@asynccontextmanager
async def asked(
    serve: Serve, path: str, body: Any, *, token: str = DEFAULT_TOKEN, **chosen: Any
) -> AsyncGenerator[tuple[RunningCloud, Callable[[], Any]]]:
    """A cloud and how to ask it."""
    headers = {"authorization": f"Bearer {token}", "anthropic-version": "2023-06-01"}
    async with serve(Settings(**chosen)) as running, aiohttp.ClientSession(headers=headers) as http:
        yield running, lambda: http.post(running.root + path, json=body)


@CLOUDS
async def test_calls_are_seen_with_how_they_ended(serve: Serve, path: str, body: Any) -> None:
    """One that is answered, and one that is told an error."""
    async with asked(serve, path, body) as (running, ask):
        running.account.faults.add(Fault(status=503))
        statuses = [reply.status for reply in (await ask(), await ask())]

        assert statuses[0] == 503
        assert statuses[1] in (200, 201)
        seen = running.account.calls.calls
        assert [(one.outcome, one.status, one.auth_ok) for one in seen] == [
            ("refused", 503, True),
            ("answered", statuses[1], True),
        ]


@CLOUDS
async def test_a_stranger_is_refused_and_takes_no_fault(serve: Serve, path: str, body: Any) -> None:
    """By 401; with an empty token nobody is a stranger."""
    async with asked(serve, path, body, token="another") as (running, ask):
        running.account.faults.add(Fault(status=503))

        assert (await ask()).status == 401
        assert len(running.account.faults.planned) == 1
    async with serve(Settings(token="")) as running, aiohttp.ClientSession() as http:
        headers = {"anthropic-version": "2023-06-01"}
        async with http.post(running.root + path, json=body, headers=headers) as reply:
            assert reply.status in (200, 201)


@CLOUDS
async def test_a_body_that_is_too_large_is_413(serve: Serve, path: str, body: Any) -> None:
    """In the cloud's own words, which are JSON."""
    async with asked(serve, path, body, body_limit_bytes=8) as (running, ask):
        reply = await ask()

        assert (reply.status, reply.content_type) == (413, "application/json")
        assert running.account.calls.calls[0].outcome == "refused"


async def test_each_of_several_prompts_is_answered() -> None:
    """In their order, with one usage for all of them."""
    body = {"model": "m", "prompt": ["repeat: one", "repeat: two"], "n": 2}
    async with asked(openai.serve, "/v1/completions", body) as (_, ask):
        told = await (await ask()).json()

    texts = [choice["text"].strip() for choice in told["choices"]]
    assert [choice["index"] for choice in told["choices"]] == [0, 1, 2, 3]
    assert texts == ["one", "one", "two", "two"]
    assert told["usage"]["prompt_tokens"] == 6


SIMILAR = "/hf-inference/models/o/sentence-similarity"
DRAWN = "/hf-inference/models/o/text-to-image"
WRITTEN = "/hf-inference/models/o/text-generation"
TRANSLATED = "/hf-inference/models/o/translation"


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        (SIMILAR, {"inputs": {"sentences": ["a"]}}, "`source_sentence`"),
        (SIMILAR, {"inputs": "a"}, "`inputs`: Expected `object`, got `str`"),
        (SIMILAR, {"inputs": {"source_sentence": "a", "sentences": [1]}}, "`inputs.sentences[0]`"),
        (DRAWN, {"inputs": "a", "parameters": {"width": "wide"}}, "`parameters.width`: Expected `int"),
        (DRAWN, {"inputs": "a", "parameters": {"height": -5}}, "`parameters.height`"),
        (DRAWN, {"inputs": "a", "parameters": "wide"}, "`parameters`"),
        (WRITTEN, {"inputs": []}, "`inputs`"),
        (WRITTEN, {"inputs": [1]}, "`inputs[0]`"),
        (WRITTEN, {"inputs": None}, "`inputs`"),
        (WRITTEN, {"inputs": "a", "parameters": {"max_new_tokens": "many"}}, "`parameters.max_new_tokens`"),
        (TRANSLATED, {"inputs": "a", "parameters": {"tgt_lang": 7}}, "`parameters.tgt_lang`"),
    ],
)
async def test_inputs_that_do_not_fit_are_named_by_hugging_face(path: str, body: Any, told: str) -> None:
    """By where they stand, with 422."""
    async with asked(huggingface.serve, path, body) as (_, ask):
        reply = await ask()
        [error] = (await reply.json())["error"]

    assert reply.status == 422
    assert told in error


async def test_a_task_is_asked_in_json_whatever_curl_calls_it() -> None:
    """`curl -d` calls JSON a form; and a task that nobody knows is 404."""
    async with asked(huggingface.serve, WRITTEN, None) as (running, _), aiohttp.ClientSession() as http:
        headers = {"authorization": f"Bearer {running.token}"}
        form = headers | {"content-type": "application/x-www-form-urlencoded"}
        async with http.post(running.root + WRITTEN, data=b'{"inputs": "count to 3"}', headers=form) as reply:
            assert (reply.status, await reply.json()) == (200, [{"generated_text": "count to 3\n1 2 3"}])
        unknown = f"{running.root}/hf-inference/models/o/n/pipeline/juggling"
        async with http.post(unknown, json={"inputs": "hi"}, headers=headers) as reply:
            assert reply.status == 404


@pytest.mark.parametrize(
    ("model", "given", "told"),
    [
        ("o/chat", {"messages": [{"content": "hi"}]}, "- input.messages[0]: Object missing"),
        ("o/chat", {"messages": [{"role": "user", "content": None}]}, "- input.messages[0].content:"),
        ("o/chat", {"messages": ["hi"]}, "- input.messages[0]: Expected `object`"),
        ("o/chat", {"prompt": "hi", "max_tokens": "many"}, "- input.max_tokens: Expected"),
        ("o/flux", {"prompt": "hi", "width": "wide"}, "- input.width: Expected `int"),
        ("o/flux", {"prompt": "hi", "height": -5}, "- input.height: Expected"),
        ("o/flux", {"prompt": "hi", "output_format": ["png"]}, "- input.output_format: Expected"),
        ("o/ears", {"audio": "data:,\u00e4"}, "- input.audio: no base64"),
        ("o/ears", {"audio": "data:,UklGRg==", "language": 7}, "- input.language: Expected"),
    ],
)  # fmt: skip
async def test_inputs_that_do_not_fit_are_named_by_replicate(model: str, given: Any, told: str) -> None:
    """By where they stand, with 422."""
    path = f"/v1/models/{model}/predictions"
    async with asked(replicate.serve, path, {"input": given}) as (_, ask):
        reply = await ask()
        document = await reply.json()

    assert (reply.status, document["title"]) == (422, "Input validation failed")
    assert document["detail"].startswith(told)
