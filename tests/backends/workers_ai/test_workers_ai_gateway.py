"""Calls through an AI Gateway: its two ways in, its cache, its errors, and what goes to it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from scripted_cloud import (
    ACCOUNT,
    CLOSE,
    TOKEN,
    Upstream,
    answer,
    batches,
    chat,
    chunk,
    cloud,
    events,
    head,
    listening,
    models,
    plain,
    stream,
)
from tasks_cloud import BGE, embed

from hybrid_router.backends.workers_ai import WorkersAI
from hybrid_router.backends.workers_ai.gateway import policy
from hybrid_router.config.backend_schema import SecretSource
from hybrid_router.config.cloud_schema import Gateway, WorkersAIBackend
from hybrid_router.core.call import Adapter
from hybrid_router.core.errors import AccountRefused, BackendBusy, Inexpressible
from hybrid_router.core.event import CACHE_STATUS, Event, Remark, Text
from hybrid_router.core.secret import Secret
from hybrid_router.dispatch.record import Attempt
from hybrid_router.emulator.server import Running, serve
from hybrid_router.emulator.settings import DEFAULT_GATEWAY_TOKEN, Settings

LORA = "@cf/mistral/mistral-7b-instruct-v0.2-lora"
PIECE = {"response": "hi"}
WAYS = ("api", "host")


def through(running: Running, gateway_token: str | None = DEFAULT_GATEWAY_TOKEN, **chosen: Any) -> WorkersAI:
    """A backend whose calls go through a gateway of the emulator's."""
    host = running.base_url.removesuffix("/client/v4") + "/v1"
    gateway = Gateway(**{"id": "default", "base_url": host, **chosen})
    config = WorkersAIBackend(
        account_id=running.account_id, token=SecretSource(), base_url=running.base_url, gateway=gateway
    )
    own = None if gateway_token is None else Secret(gateway_token)
    return WorkersAI("cloud", config, running.account_id, Secret(running.token), models(), gateway_token=own)


@asynccontextmanager
async def emulated(
    gateway_token: str | None = DEFAULT_GATEWAY_TOKEN, **chosen: Any
) -> AsyncIterator[tuple[WorkersAI, Running]]:
    """Such a backend and its emulator."""
    async with serve(Settings()) as running:
        backend = through(running, gateway_token, **chosen)
        try:
            yield backend, running
        finally:
            await backend.close()


@asynccontextmanager
async def scripted(*replies: list[bytes | str], **chosen: Any) -> AsyncIterator[tuple[WorkersAI, Upstream]]:
    """A backend with both tokens in front of a gateway host that says what it is told to say."""
    upstream = Upstream(list(replies))
    async with listening(upstream.serve) as port:
        gateway = Gateway(id="g1", through="host", base_url=f"http://127.0.0.1:{port}/v1", **chosen)
        config = WorkersAIBackend(account_id=ACCOUNT, token=SecretSource(), gateway=gateway)
        backend = WorkersAI(
            "cloud", config, ACCOUNT, Secret(TOKEN), models(), gateway_token=Secret("aig-canary-1")
        )
        try:
            yield backend, upstream
        finally:
            await backend.close()


def told(events_: list[Event]) -> dict[str, str]:
    """Remarks by name, as the decision record keeps them: the last one counts."""
    return {event.name: event.text for event in events_ if isinstance(event, Remark)}


def text(events_: list[Event]) -> str:
    """What was said."""
    return "".join(event.text for event in events_ if isinstance(event, Text))


@pytest.mark.parametrize("way", WAYS)
async def test_either_way_in_answers_and_says_its_step_and_log(way: str) -> None:
    """A streamed chat and a task get their answers, and the gateway's remarks come with them."""
    async with emulated(through=way) as (backend, _):
        said = await answer(backend, chat(stream=True))
        embedded = await answer(backend, embed("a"), BGE)

    assert text(said)
    for found in (told(said), told(embedded)):
        assert found["cf-aig-step"] == "0"
        assert len(found["cf-aig-log-id"]) == 26


@pytest.mark.parametrize("way", WAYS)
async def test_a_kept_answer_costs_nothing(way: str) -> None:
    """Asked again, a plain call is answered by the cache: the cloud hears nothing and counts nothing."""
    async with emulated(through=way, cache_ttl=60.0) as (backend, running):
        first = await answer(backend, chat("the same"))
        used = running.account.ledger.used
        again = await answer(backend, chat("the same"))

        assert [told(first)[CACHE_STATUS], told(again)[CACHE_STATUS]] == ["MISS", "HIT"]
        assert text(again) == text(first)
        assert running.account.ledger.used == used > 0
        assert len(running.account.calls.calls) == 1


async def test_a_task_is_kept_too() -> None:
    """Vectors that the cache had are a hit; the others are not."""
    async with emulated(cache_ttl=60.0) as (backend, _):
        first = await answer(backend, embed("a"), BGE)
        again = await answer(backend, embed("a"), BGE)
        other = await answer(backend, embed("b"), BGE)

    assert [told(each)[CACHE_STATUS] for each in (first, again, other)] == ["MISS", "HIT", "MISS"]


async def test_a_streamed_call_is_streamed_all_the_same() -> None:
    """A cache for plain calls takes nothing from those that are to be seen as they come."""
    async with emulated(cache_ttl=60.0) as (backend, running):
        many = await batches(backend, chat("tell me something", stream=True))

        assert len(many) > 1
        assert running.account.calls.calls[0].stream


async def test_without_a_cache_plain_calls_are_streamed() -> None:
    """A gateway alone, or one whose cache is off, leaves the first token's timer its meaning."""
    async with emulated(cache_ttl="off") as (backend, running):
        await answer(backend, chat())

        assert running.account.calls.calls[0].stream


async def test_every_choice_is_an_answer_of_its_own() -> None:
    """Choices of one prompt are the same request: the cache may give the first, and never the others."""
    reply = plain({"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]})
    async with scripted(reply, cache_ttl=60.0) as (backend, upstream):
        await answer(backend, chat(n=2))

    ttls = [headers["cf-aig-cache-ttl"] for _, headers, _ in upstream.requests]
    assert ttls == ["60", "0"]
    assert upstream.requests[1][1]["cf-aig-skip-cache"] == "true"


async def test_an_answer_that_the_cache_has_in_part_is_none_of_its() -> None:
    """Only if every request was a hit does the record say so: the rest was computed and is paid for."""
    body = {"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]}
    hit, miss = (plain(body, extra=f"cf-aig-cache-status: {word}\r\n") for word in ("HIT", "MISS"))
    async with scripted(hit, miss, cache_ttl=60.0) as (backend, _):
        found = told(await answer(backend, chat(n=2)))
    async with scripted(miss, hit, cache_ttl=60.0) as (backend, _):
        turned = told(await answer(backend, chat(n=2)))

    assert [found[CACHE_STATUS], turned[CACHE_STATUS]] == ["MISS", "MISS"]


async def test_a_gateway_that_wants_two_tokens_gets_both() -> None:
    """Each where it belongs, at the gateway's own address; without its own the gateway refuses."""
    async with scripted(stream(PIECE, b"[DONE]")) as (backend, upstream):
        await answer(backend, chat(stream=True))
    line, headers, _ = upstream.requests[0]

    assert line == f"POST /v1/{ACCOUNT}/g1/workers-ai/v1/chat/completions HTTP/1.1"
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert headers["cf-aig-authorization"] == "Bearer aig-canary-1"
    async with emulated(None, through="host") as (backend, _):
        with pytest.raises(AccountRefused, match="AI Gateway refused us"):
            await answer(backend, chat())


async def test_what_the_policy_says_is_what_is_sent() -> None:
    """Every key as its header, with the gateway's units; what is left out is left to the gateway."""
    gateway = Gateway(
        id="g1",
        cache_ttl=3600.0,
        skip_cache=True,
        request_timeout=1.5,
        max_attempts=3,
        retry_delay=0.25,
        backoff="linear",
        collect_log=False,
        metadata={"team": "Zürich 🏔", "paid": True},
    )

    sent = policy(gateway)

    assert json.loads(sent.pop("cf-aig-metadata")) == {"team": "Zürich 🏔", "paid": True}
    assert sent == {
        "cf-aig-gateway-id": "g1",
        "cf-aig-cache-ttl": "3600",
        "cf-aig-skip-cache": "true",
        "cf-aig-request-timeout": "1500",
        "cf-aig-max-attempts": "3",
        "cf-aig-retry-delay": "250",
        "cf-aig-backoff": "linear",
        "cf-aig-collect-log": "false",
        "cf-aig-collect-log-payload": "false",
    }
    assert policy(Gateway(id="g1", through="host")) == {"cf-aig-collect-log-payload": "false"}
    assert policy(None) == {}


async def test_the_gateway_notes_no_prompt_unless_told_to() -> None:
    """Its log has the call with the metadata, and of what was said nothing."""
    async with emulated(through="host", metadata={"team": "a"}) as (backend, running):
        found = told(await answer(backend, chat("canary")))
        base = f"{running.base_url}/accounts/{running.account_id}/ai-gateway/gateways/default/logs"
        headers = {"authorization": f"Bearer {running.token}"}
        where = f"{base}/{found['cf-aig-log-id']}"
        async with aiohttp.ClientSession(headers=headers) as http, http.get(where) as response:
            entry = (await response.json())["result"]

    assert entry["metadata"] in ({"team": "a"}, '{"team":"a"}')
    assert entry["request_head"] == ""


@pytest.mark.parametrize("way", WAYS)
async def test_a_gateway_that_is_not_there_is_named(way: str) -> None:
    """Its errors are read from both hosts, whose bodies differ."""
    async with emulated(through=way, id="missing") as (backend, _):
        with pytest.raises(AccountRefused, match="AI Gateway refused us: check its name"):
            await answer(backend, chat())


@pytest.mark.parametrize("way", WAYS)
async def test_the_gateways_own_rate_limit_is_told_apart(way: str) -> None:
    """The next step may try; nobody blames the account's minute."""
    async with emulated(through=way, id="small") as (backend, running):
        base = f"{running.base_url}/accounts/{running.account_id}/ai-gateway/gateways"
        body = {
            "id": "small",
            "cache_invalidate_on_update": False,
            "cache_ttl": 0,
            "collect_logs": True,
            "rate_limiting_interval": 3600,
            "rate_limiting_limit": 1,
        }
        headers = {"authorization": f"Bearer {running.token}"}
        async with aiohttp.ClientSession(headers=headers) as http, http.post(base, json=body) as made:
            assert made.status == 200
        await answer(backend, chat())
        with pytest.raises(BackendBusy, match="AI Gateway's rate limit"):
            await answer(backend, chat())


async def test_an_error_behind_the_gateway_is_the_clouds_own() -> None:
    """It passes through and means the same; the gateway's log is named beside it, for whoever looks it up."""
    failed = plain(
        {"success": False, "errors": [{"code": 3040, "message": "Capacity"}]},
        "429 Too Many Requests",
        "cf-aig-log-id: 01LOG\r\n",
    )
    async with scripted(failed) as (backend, _):
        with pytest.raises(BackendBusy, match="no capacity") as refused:
            await answer(backend, chat())

    assert "01LOG" in refused.value.detail


async def test_neither_token_shows_in_an_error() -> None:
    """A gateway that quotes what it was sent is not quoted."""
    quoted = {"success": False, "error": [{"code": 5006, "message": f"bad aig-canary-1 {TOKEN} {ACCOUNT}"}]}
    async with scripted(plain(quoted, "400 Bad Request")) as (backend, _):
        with pytest.raises(Exception, match="does not accept") as refused:
            await answer(backend, chat())

    shown = f"{refused.value!r} {getattr(refused.value, 'detail', '')}"
    assert "canary" not in shown
    assert ACCOUNT not in shown


async def test_a_head_alone_is_no_sign_of_life() -> None:
    """Remarks come with the first of the answer: until then the first token is waited for."""
    begun: list[bytes | str] = [
        head(extra="cf-aig-step: 0\r\n"),
        chunk(b": ping\n\n"),
        chunk(events(PIECE, b"[DONE]")),
        CLOSE,
    ]
    async with scripted(begun) as (backend, _):
        first, *_ = await batches(backend, chat(stream=True))

    row = Attempt(backend="cloud", model="m", started_s=0.0)
    row.note(first, 1.0)
    assert row.first_event_s == 1.0
    assert row.remarks == {"cf-aig-step": "0"}


async def test_a_fine_tune_is_named_in_the_call() -> None:
    """By its name, on the endpoint that knows it; a model without adapters does not offer it."""
    async with cloud(stream(PIECE, b"[DONE]")) as (backend, upstream):
        await answer(backend, chat(adapters=(Adapter("sql"),)), LORA)

        assert upstream.requests[0][2]["lora"] == "sql"
        assert "/ai/run/" in upstream.requests[0][0]
        assert {"adapters" in {each.value for each in backend.features(m)} for m in (LORA, BGE)} == {
            True,
            False,
        }


@pytest.mark.parametrize("adapters", [(Adapter("a"), Adapter("b")), (Adapter("a", 0.5),)])
async def test_a_fine_tune_that_cannot_be_said_is_left_to_another_step(adapters: tuple[Adapter, ...]) -> None:
    """Several, or at another strength: Workers AI has no words for that."""
    async with cloud(stream(PIECE, b"[DONE]")) as (backend, upstream):
        with pytest.raises(Inexpressible, match="one fine-tune a call"):
            await answer(backend, chat(adapters=adapters), LORA)

    assert upstream.requests == []
