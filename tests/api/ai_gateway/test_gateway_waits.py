"""What a gateway tells of waiting, and of what to write."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from gateways_played import ACCOUNT, LLAMA, SAID, Aliased, door, step
from scripted_answers import HandSleep, Reply, post

from hybrid_router.config.front_schema import FrontGateway, RateLimit
from hybrid_router.core.errors import BackendUnavailable, NoBackend
from hybrid_router.core.event import Finish, Picture, Text, Usage

GOOD: list[Any] = [[Text("wörld" * 40_000)], [Finish("stop"), Usage(7, 3)]]
DOWN = BackendUnavailable("nobody there")
PNG = b"\x89PNG\r\n\x1a\n rest"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        f"/client/v4/accounts/{ACCOUNT}/ai/run/{LLAMA}",
        f"/v1/{ACCOUNT}/site/openai/chat/completions",
        f"/v1/{ACCOUNT}/site/anthropic/v1/messages",
    ],
)
async def test_every_dialect_says_when_to_ask_again(path: str) -> None:
    """In `retry-after`, whole seconds; also of what nobody serves for a while."""
    answers = Aliased()
    answers.refusal = NoBackend("asked again in 2.5 s", retry_after_s=2.5)
    key = "cf-aig-authorization" if "site" in path else "authorization"
    body = {"model": "fast", "messages": SAID, "max_tokens": 9}
    async with door(answers) as played:
        reply = await post(played.port, path, body, {key: "Bearer hr-alice"})

    assert (reply.status, reply.headers["retry-after"]) == (503, "3")


@pytest.mark.parametrize("technique", ["fixed", "sliding"])
async def test_a_call_too_many_is_told_whose_limit_it_met(technique: Any) -> None:
    """The gateway's, with the place in router.yaml; and when there will be room."""
    limit = RateLimit(calls=1, interval=86_400.0, technique=technique)
    async with door(Aliased(), {"site": FrontGateway(rate_limit=limit)}) as played:
        await played.chat()
        reply = await played.chat()

    assert (reply.status, reply.json["internalCode"]) == (429, 2003)
    assert reply.json["message"] == (
        "Rate limited: the gateway site takes 1 call in 1d, by its rate_limit in router.yaml"
    )
    assert 0 < int(reply.headers["retry-after"]) <= 86_400


async def test_a_slash_behind_the_gateway_changes_nothing() -> None:
    """Of several steps: some clients write it, since nothing has to be behind it."""
    async with door(Aliased()) as played:
        reply = await played.post("site/", [step()])
        other = await played.post("other/", [step()])

    assert reply.status == 200
    assert other.json["message"].startswith("there is no gateway 'other'")


async def test_the_log_of_no_gateway_says_so() -> None:
    """2001, as at the gateway's own addresses: no input is at fault."""
    async with door(Aliased()) as played:
        (told,) = (await played.logs(gateway="other"))["errors"]

    assert told["code"] == 2001
    assert told["message"].startswith("there is no gateway 'other'")


async def test_a_model_that_nobody_answers_for_says_where_to_write_it() -> None:
    """The gateway's own place in router.yaml."""
    async with door(Aliased()) as played:
        reply = await played.chat(model="nope")

    assert "gateways.site.providers.openai of router.yaml" in reply.json["error"]["message"]


async def test_a_wrong_key_is_told_the_header_that_counts() -> None:
    """A gateway's own, which comes before all others there."""
    async with door(Aliased()) as played:
        reply = await played.chat(cf_aig_authorization="Bearer wrong")

    assert reply.status == 401
    assert "cf-aig-authorization: Bearer KEY" in msgspec.json.decode(reply.body)["message"]


async def _slow(scripts: list[list[Any]], **wishes: str) -> tuple[Reply, Reply]:
    """A chat during which twenty seconds go by before its first script ends, and the same chat once more."""
    gate, sleep = asyncio.Event(), HandSleep()
    answers = Aliased({"fast": [[gate, *scripts[0]], *scripts[1:]]})
    async with door(answers, sleep=sleep) as played:
        asked = asyncio.create_task(played.chat(**wishes))
        await sleep.passes()
        await sleep.passes()
        await sleep.asked.get()  # both signs were given
        gate.set()
        return await asked, await played.chat(**wishes)


async def test_a_slow_document_of_a_gateway_begins_with_spaces() -> None:
    """One every ten seconds; what is kept of it begins with itself."""
    first, again = await _slow([GOOD], cf_aig_cache_ttl="60")

    assert (first.status, first.headers["content-type"]) == (200, "application/json")
    assert first.body.startswith(b"  {")
    assert first.json["choices"][0]["message"]["content"] == "wörld" * 40_000
    assert (first.headers["cf-aig-step"], first.headers["cf-aig-cache-status"]) == ("0", "MISS")
    assert (again.headers["cf-aig-cache-status"], again.body) == ("HIT", first.body.lstrip())


async def test_a_further_try_goes_on_where_signs_were_given() -> None:
    """The document is the one of the try that worked; if none did, it is the error."""
    wishes = {"cf_aig_max_attempts": "2", "cf_aig_retry_delay": "0"}
    better, _ = await _slow([[DOWN], GOOD], **wishes)
    failed, afterwards = await _slow([[DOWN], [DOWN]], **wishes)

    assert (better.status, better.json["object"]) == (200, "chat.completion")
    assert better.body.startswith(b"  {")
    assert (failed.status, failed.error["code"]) == (200, "backend_unavailable")
    assert afterwards.status == 503


CHAT = {"provider": "openai", "endpoint": "chat/completions", "query": {"model": "slow", "messages": SAID}}
IMAGE = "@cf/stabilityai/stable-diffusion-xl-base-1.0"


@pytest.mark.parametrize(
    ("path", "body", "step"),
    [
        ("site", [CHAT, CHAT | {"query": {"model": "fast", "messages": SAID}}], "1"),
        ("site/openai/chat/completions", {"model": "slow", "messages": SAID, "stream": True}, "0"),
        ("site/replicate/v1/predictions", {"version": "slow", "input": {"prompt": "x"}}, "0"),
    ],
    ids=["another step may answer", "a stream", "201"],
)
async def test_no_head_is_sent_that_may_be_another(path: str, body: Any, step: str) -> None:
    """A step that others come after, a stream, and a status of its own: nothing is sent before the answer."""
    gate, sleep = asyncio.Event(), HandSleep()
    answers = Aliased({"slow": [[gate, *([DOWN] if step == "1" else GOOD)]]})
    async with door(answers, sleep=sleep) as played:
        asked = asyncio.create_task(played.post(path, body))
        await answers.running.wait()
        assert sleep.asked.empty()
        gate.set()
        reply = await asked

    assert (reply.status, reply.headers["cf-aig-step"]) == (201 if "replicate" in path else 200, step)
    assert not reply.body.startswith(b" ")


async def test_a_file_of_a_gateway_has_no_room_for_signs() -> None:
    """However long a picture takes, its first byte is its own."""
    gate, sleep = asyncio.Event(), HandSleep()
    answers = Aliased({"fast": [[gate, [Picture(PNG), Finish("stop")]]]})
    gateways = {"site": FrontGateway(providers={"workers-ai": {IMAGE: "fast"}})}
    async with door(answers, gateways, sleep=sleep) as played:
        asked = asyncio.create_task(played.post(f"site/workers-ai/{IMAGE}", {"prompt": "a cat"}))
        await answers.running.wait()
        assert sleep.asked.empty()
        gate.set()
        reply = await asked

    assert reply.body == PNG
