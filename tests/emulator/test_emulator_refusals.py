"""What is refused, with which status and code, and what an account may use."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from emulated import BY_INPUT, CHAT, CLASSIC, TOOL, HandClock, emulated, first_code, said, token_neurons

from hybrid_router.api.workers_ai.refusal import TABLE
from hybrid_router.catalogue.workers_ai import load

HELLO = {"prompt": "hello"}
PAID_ONLY = "@cf/zai-org/glm-5.2"


async def test_a_call_needs_the_token() -> None:
    """No token, another token, another scheme: 401/10000 and a null result."""
    async with emulated() as cloud, aiohttp.ClientSession() as stranger:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic emulator"}):
            url = f"{cloud.ai_url}/run/{CLASSIC}"
            async with stranger.post(url, json=HELLO, headers=headers) as response:
                document = await response.json()
                assert (response.status, first_code(document)) == (401, 10000)
                assert document["result"] is None
                assert response.headers["cf-ai-req-id"]


async def test_the_legacy_pair_opens_the_account_where_there_is_one() -> None:
    """Both of e-mail and key are needed; a wrong token is not made good by them; none is there by itself."""
    pair = {"x-auth-email": "me@example.com", "x-auth-key": "k1"}
    attempts = [
        pair,
        pair | {"x-auth-key": "k2"},
        pair | {"x-auth-email": "you@example.com"},
        {"x-auth-key": "k1"},
        pair | {"authorization": "Bearer wrong"},
    ]
    statuses = []
    async with (
        emulated(auth_email="me@example.com", auth_key="k1") as cloud,
        emulated() as other,
        aiohttp.ClientSession() as stranger,
    ):
        for headers in attempts:
            url = f"{cloud.ai_url}/run/{CLASSIC}"
            async with stranger.post(url, json=HELLO, headers=headers) as response:
                statuses.append(response.status)
        seen = await cloud.settled_calls()
        empty = {"x-auth-email": "", "x-auth-key": ""}
        async with stranger.post(f"{other.ai_url}/run/{CLASSIC}", json=HELLO, headers=empty) as response:
            assert first_code(await response.json()) == 10000

    assert statuses == [200, 401, 401, 401, 401]
    assert seen[0]["headers"]["x-auth-key"] == "***"


async def test_an_account_id_of_the_wrong_form_is_not_routed() -> None:
    """404 with 7003 and 7000, whatever the token: a client is not told `401` for a typing error."""
    async with emulated() as cloud, aiohttp.ClientSession() as stranger:
        url = f"{cloud.running.base_url}/accounts/my-account/ai/run/{CLASSIC}"
        async with stranger.post(url, json=HELLO) as response:
            document = await response.json()

    assert response.status == 404
    assert [error["code"] for error in document["errors"]] == [7003, 7000]


async def test_another_account_is_forbidden() -> None:
    """A token that is valid, for an account that is not its own: 403/10000."""
    async with emulated() as cloud:
        url = f"{cloud.running.base_url}/accounts/{'a' * 32}/ai/models/search"
        status, document = await cloud.get(url)

    assert (status, first_code(document)) == (403, 10000)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/ai/v1/models", 405, 7001),
        ("GET", f"/ai/run/{CLASSIC}", 405, 7001),
        ("DELETE", "/ai/v1/chat/completions", 405, 7001),
        ("POST", "/ai/v1/completions", 404, 7000),
        ("GET", "/ai", 404, 7000),
    ],
)
async def test_what_does_not_exist_is_told_in_the_envelope(
    method: str, path: str, status: int, code: int
) -> None:
    """A wrong method is 405/7001, a wrong path 404/7000; `GET /ai/v1/models` is the former."""
    async with emulated() as cloud:
        url = f"{cloud.running.base_url}/accounts/{cloud.running.account_id}{path}"
        async with cloud.http.request(method, url) as response:
            assert (response.status, first_code(await response.json())) == (status, code)


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("@cf/no/such", 400, 5007),
        ("@cf/deepseek-ai/deepseek-math-7b-base", 400, 5007),
        ("@cf/deepgram/flux", 400, 5007),
        ("@hf/thebloke/zephyr-7b-beta-awq", 410, 5028),
        (PAID_ONLY, 403, 5035),
    ],
)
async def test_models_that_do_not_answer(model: str, status: int, code: int) -> None:
    """Unknown, withdrawn or of a socket alone: 5007; past its date: 5028; for paying accounts: 5035."""
    async with emulated() as cloud:
        got, document = await cloud.run(model, {"messages": said("hi")})

    assert (got, first_code(document)) == (status, code)


async def test_a_retired_model_names_who_does_its_work() -> None:
    """By the catalogue's judgement, beside the day on which it went."""
    async with emulated() as cloud:
        _, document = await cloud.run("@cf/meta/llama-2-7b-chat-int8", {"prompt": "hi"})

    told = document["errors"][0]["message"]
    assert "deprecated on 2026-05-30: name @cf/meta/llama-3.2-3b-instruct in its place" in told


@pytest.mark.parametrize(
    ("model", "body", "told"),
    [
        (CLASSIC, {}, ["'prompt'", "'messages'"]),
        (CLASSIC, {"prompt": ""}, ["minLength at '/prompt'"]),
        (CLASSIC, {"prompt": 7}, ["Type mismatch of '/prompt', 'integer' not in 'string'"]),
        (CLASSIC, {"prompt": "x", "temperature": 9}, ["maximum at '/temperature' must be 5"]),
        (
            CLASSIC,
            {"messages": [{"role": "user", "content": None}]},
            ["'/messages/0/content', 'null' not in"],
        ),
        (CLASSIC, {"messages": [{"role": "user"}]}, ["required properties at '/messages/0' are 'content'"]),
        (CHAT, {"messages": said("x"), "n": 0}, ["minimum at '/n' must be 1"]),
        (CHAT, {"messages": [{"role": "tool", "content": "x"}]}, ["at '/messages/0' are 'tool_call_id'"]),
        (CHAT, {"messages": said("x"), "reasoning_effort": "extreme"}, ["value at '/reasoning_effort'"]),
        (BY_INPUT, {"requests": [{"prompt": "x"}]}, ["Bad input"]),
    ],
)
async def test_a_body_against_the_schema_is_refused_with_its_path(
    model: str, body: dict[str, Any], told: list[str]
) -> None:
    """400/5006 by the model's own schema; the message names what is wrong and where."""
    async with emulated() as cloud:
        status, document = await cloud.run(model, body)

    assert (status, first_code(document)) == (400, 5006)
    assert all(part in document["errors"][0]["message"] for part in told), document


async def test_each_violation_is_told_once() -> None:
    """Three missing properties of a tool are one sentence."""
    async with emulated() as cloud:
        _, document = await cloud.run(CLASSIC, {"messages": said("x"), "tools": [{}]})

    missing = "required properties at '/tools/0' are 'name', 'description', 'parameters'"
    assert document["errors"][0]["message"].count(missing) == 1


async def test_a_message_is_explained_by_its_own_role_alone() -> None:
    """The alternatives that a message's role rules out are not listed."""
    async with emulated() as cloud:
        _, document = await cloud.run(CHAT, {"messages": [{"role": "user"}]})

    assert "tool_call_id" not in document["errors"][0]["message"]


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"", 400, 3003),
        (b"{", 400, 5006),
        (b"[1]", 400, 5006),
        (b"\xff", 400, 5006),
        (b'{"a":' + b"[" * 1000 + b"]" * 1000 + b"}", 400, 5006),
        (b"x" * 3000, 413, 3006),
    ],
)
async def test_bodies_that_are_no_json_object(raw: bytes, status: int, code: int) -> None:
    """Empty, broken, of another kind, nested too deeply or too large: each has its code."""
    async with emulated(body_limit_bytes=2048) as cloud:
        url = f"{cloud.ai_url}/run/{CLASSIC}"
        async with cloud.http.post(url, data=raw) as response:
            assert (response.status, first_code(await response.json())) == (status, code)


@pytest.mark.parametrize("body", [{"messages": said("x")}, {"model": 7, "messages": said("x")}])
async def test_the_openai_address_needs_a_model(body: dict[str, Any]) -> None:
    """Without a model's name nothing can be run."""
    async with emulated() as cloud:
        status, document = await cloud.reply("/v1/chat/completions", body)

    assert (status, first_code(document)) == (400, 5006)


async def test_run_without_input_is_refused() -> None:
    """`POST /run` takes the model's own input below `input`."""
    async with emulated() as cloud:
        status, document = await cloud.reply("/run", {"model": CLASSIC, "prompt": "x"})

    assert (status, first_code(document)) == (400, 5006)


async def test_a_prompt_over_the_context_window_is_refused() -> None:
    """400/8007: the model server's own refusal."""
    async with emulated() as cloud:
        status, document = await cloud.run(CLASSIC, {"prompt": "x " * 60_000})

    assert (status, first_code(document)) == (400, 8007)


async def test_neurons_are_metered_by_the_published_prices() -> None:
    """Each call, plain or streamed, adds exactly tokens × rate; a refused one adds nothing."""
    model = load().by_id()[CLASSIC]
    async with emulated() as cloud:
        _, reply = await cloud.run(CLASSIC, {"prompt": "count to 7"})
        await cloud.chat_stream({"messages": said("count to 11")})
        await cloud.run(CLASSIC, {"prompt": 7})
        used = await cloud.neurons()

    assert reply["result"]["usage"]["total_tokens"] == 6 + 7
    assert used == token_neurons(model, 6, 7) + token_neurons(model, 6, 11)
    assert used == (6 * 2457 + 7 * 18252) / 1e6 + (6 * 2457 + 11 * 18252) / 1e6


@pytest.mark.parametrize("code", [4006, 3036])
async def test_a_spent_day_refuses_until_the_next_one(code: int) -> None:
    """The call that crosses the limit is answered, the next gets 429; at 00:00 UTC the day is new."""
    clock = HandClock()
    async with emulated(daily_neurons=0.1, quota_code=code, now=clock) as cloud:
        first, _ = await cloud.run(CLASSIC, {"prompt": "count to 9"})
        spent, document = await cloud.run(CLASSIC, HELLO)
        clock.forward(seconds=119)
        still, _ = await cloud.run(CLASSIC, HELLO)
        clock.forward(seconds=1)
        renewed, _ = await cloud.run(CLASSIC, HELLO)

    assert (first, spent, still, renewed) == (200, 429, 429, 200)
    assert first_code(document) == code


async def test_a_paying_account_has_no_daily_end() -> None:
    """The paid plan is charged for what it uses beyond the free part, and may call every model."""
    async with emulated(paid=True, daily_neurons=0) as cloud:
        status, _ = await cloud.run(PAID_ONLY, {"messages": said("hi")})

    assert status == 200


async def test_calls_a_minute_are_limited_by_task() -> None:
    """300 text generation calls a minute for all models together; the next minute starts anew."""
    clock = HandClock()
    async with emulated(now=clock) as cloud:
        for _ in range(300):
            cloud.running.account.ledger.admit("Text Generation", None)
        status, document = await cloud.run(CLASSIC, HELLO)
        clock.forward(minutes=1)
        later, _ = await cloud.run(CLASSIC, HELLO)

    assert (status, first_code(document)) == (429, 3021)
    assert later == 200


async def test_models_for_paying_accounts_have_a_limit_each() -> None:
    """20 a minute of one such model leave the others alone."""
    clock = HandClock()
    async with emulated(now=clock, paid=True) as cloud:
        statuses = [(await cloud.run(PAID_ONLY, {"messages": said("hi")}))[0] for _ in range(21)]
        other, _ = await cloud.run(CLASSIC, HELLO)

    assert statuses == [200] * 20 + [429]
    assert other == 200


async def test_rate_limits_can_be_switched_off() -> None:
    """For measurements: no call is counted."""
    async with emulated(rate_limits=False) as cloud:
        for _ in range(301):
            cloud.running.account.ledger.admit("Text Generation", None)
        status, _ = await cloud.run(CLASSIC, HELLO)

    assert status == 200


@pytest.mark.parametrize("code", sorted(TABLE))
async def test_every_code_of_the_table_can_be_asked_for(code: int) -> None:
    """A fault with a code alone has that code's status, in the envelope."""
    async with emulated() as cloud:
        status, document = await cloud.run(CLASSIC, HELLO, fault=f"code={code}")

    assert (status, first_code(document)) == (TABLE[code][0], code)


async def test_tools_must_fit_the_models_schema() -> None:
    """A tool without a name is refused; a whole one is taken."""
    async with emulated() as cloud:
        bad, _ = await cloud.run(
            CHAT, {"messages": said("x"), "tools": [{"type": "function", "function": {}}]}
        )
        good, _ = await cloud.run(CHAT, {"messages": said("x"), "tools": [TOOL]})

    assert (bad, good) == (400, 200)
