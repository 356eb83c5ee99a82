"""The emulated gateway: its host, what it keeps and counts, its log, and the API beside it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI

from hybrid_router.emulator.openai.server import serve as serve_openai
from hybrid_router.emulator.server import Running, serve
from hybrid_router.emulator.settings import DEFAULT_GATEWAY_TOKEN, Settings

LLAMA = "@cf/meta/llama-3.2-1b-instruct"
SAID = {"messages": [{"role": "user", "content": "hi"}]}
MANDATORY: dict[str, Any] = {
    "cache_invalidate_on_update": True,
    "cache_ttl": 0,
    "collect_logs": True,
    "rate_limiting_interval": 0,
    "rate_limiting_limit": 0,
}


class Host:
    """A running emulator with a gateway, and a client that has both tokens."""

    def __init__(self, running: Running, http: aiohttp.ClientSession) -> None:
        self.running = running
        self.http = http
        self.origin = running.base_url.removesuffix("/client/v4")
        self.api = f"{running.base_url}/accounts/{running.account_id}"
        self.gateways = self.api + "/ai-gateway/gateways"

    @property
    def tokens(self) -> dict[str, str]:
        """What the default gateway wants: its own token, and Workers AI's."""
        return {
            "authorization": f"Bearer {self.running.token}",
            "cf-aig-authorization": f"Bearer {DEFAULT_GATEWAY_TOKEN}",
        }

    async def post(
        self, path: str, body: Any, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, document and headers (names in lower case) of a call to the host."""
        told = self.tokens if headers is None else headers
        url = f"{self.origin}/v1/{self.running.account_id}/{path}"
        async with self.http.post(url, json=body, headers=told) as response:
            lower = {name.lower(): value for name, value in response.headers.items()}
            return response.status, await response.json(), lower

    async def manage(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and document of a call to the API's gateways."""
        headers = {"authorization": f"Bearer {self.running.token}"}
        async with self.http.request(method, self.gateways + path, json=body, headers=headers) as response:
            return response.status, await response.json()

    async def logs(self, query: str = "") -> list[dict[str, Any]]:
        """The default gateway's entries, the oldest first."""
        _, told = await self.manage("GET", "/default/logs?order_by_direction=asc" + query)
        entries: list[dict[str, Any]] = told["result"]
        return entries


@asynccontextmanager
async def hosting(**chosen: Any) -> AsyncGenerator[Host]:
    """An emulator on a free port."""
    timeout = aiohttp.ClientTimeout(total=15)
    async with serve(Settings(**chosen)) as running, aiohttp.ClientSession(timeout=timeout) as http:
        yield Host(running, http)


@pytest.fixture
async def host() -> AsyncGenerator[Host]:
    """As it usually is."""
    async with hosting() as played:
        yield played


def emulating(host: Host, fault: str) -> dict[str, str]:
    """Both tokens, and what shall go wrong at the provider."""
    return {**host.tokens, "x-emulate": fault}


def step(host: Host, fault: str | None = None, **more: Any) -> dict[str, Any]:
    """A universal call's step to Workers AI."""
    headers = {"Authorization": f"Bearer {host.running.token}"} | ({"x-emulate": fault} if fault else {})
    return {"provider": "workers-ai", "endpoint": LLAMA, "headers": headers, "query": SAID, **more}


@pytest.mark.parametrize("path", [f"workers-ai/{LLAMA}", f"workers-ai/run/{LLAMA}"])
async def test_a_model_is_asked_by_either_path(host: Host, path: str) -> None:
    """The documented one and the one that official code sends: the model's own envelope comes back."""
    status, told, headers = await host.post(f"default/{path}", SAID)

    assert (status, told["success"]) == (200, True)
    assert told["result"]["response"]
    assert headers["cf-aig-step"] == "0"
    assert len(headers["cf-aig-log-id"]) == 26


@pytest.mark.parametrize("place", ["workers-ai/v1", "compat"])
async def test_the_openai_package_works_through_it(host: Host, place: str) -> None:
    """Plain and streamed; `compat` names the provider in the model."""
    base = f"{host.origin}/v1/{host.running.account_id}/default/{place}"
    gateway = {"cf-aig-authorization": f"Bearer {DEFAULT_GATEWAY_TOKEN}"}
    model = f"workers-ai/{LLAMA}" if place == "compat" else LLAMA
    async with AsyncOpenAI(
        base_url=base, api_key=host.running.token, default_headers=gateway, max_retries=0
    ) as client:
        messages: Any = SAID["messages"]
        plain = await client.chat.completions.create(model=model, messages=messages)
        stream = await client.chat.completions.create(model=model, messages=messages, stream=True)
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]

    assert plain.choices[0].message.content == "".join(pieces)


async def test_another_provider_is_asked_where_it_is() -> None:
    """OpenAI's emulator behind the gateway; its own key goes there, the gateway's token does not."""
    async with serve_openai(Settings(token="sk-there")) as there:
        async with hosting(upstreams={"openai": there.root + "/v1"}) as host:
            headers = host.tokens | {"authorization": "Bearer sk-there"}
            body = {"model": "gpt-4o-mini", **SAID}
            good = await host.post("default/openai/chat/completions", body, headers)
            bad = await host.post("default/openai/chat/completions", body)
        seen = [dict(call.headers) for call in there.account.calls.calls]

    assert (good[0], bad[0]) == (200, 401)
    assert good[1]["choices"]
    assert all("cf-aig-authorization" not in headers for headers in seen)


async def test_a_gateway_that_wants_its_token_gets_it(host: Host) -> None:
    """Both are needed: without the gateway's 2009, without the provider's its own 10000."""
    own = {"authorization": host.tokens["authorization"]}
    gateway = {"cf-aig-authorization": host.tokens["cf-aig-authorization"]}
    wrong = own | {"cf-aig-authorization": "Bearer no"}
    replies = [
        await host.post(f"default/workers-ai/{LLAMA}", SAID, headers) for headers in (own, wrong, gateway)
    ]

    assert [status for status, _, _ in replies] == [401, 401, 401]
    assert [told["internalCode"] for _, told, _ in replies[:2]] == [2009, 2009]
    assert replies[2][1]["errors"][0]["code"] == 10000
    await host.manage("POST", "", {"id": "open", **MANDATORY})
    assert (await host.post(f"open/workers-ai/{LLAMA}", SAID, own))[0] == 200


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"nowhere/workers-ai/{LLAMA}", 2001),
        ("default/nobody/x", 2008),
        ("default/openai/chat/completions", 2005),
        ("default/compat/chat/completions", 2008),
    ],
)
async def test_what_the_gateway_cannot_do_has_its_code(host: Host, path: str, code: int) -> None:
    """In the host's own body, whose list of errors is called `error`."""
    _, told, _ = await host.post(path, SAID)

    assert (told["error"][0]["code"], told["success"], told["name"]) == (code, False, "AiGatewayError")


@pytest.mark.parametrize("failing", [0, 1, 2, 3])
async def test_the_first_step_that_works_answers(host: Host, failing: int) -> None:
    """However many fail before it; if all do, the last one's own error comes through."""
    steps = [step(host, "status=500" if i < failing else None) for i in range(3)]
    status, told, headers = await host.post("default", steps)

    assert headers["cf-aig-step"] == str(min(failing, 2))
    assert (status, told["success"]) == ((200, True) if failing < 3 else (500, False))
    assert [entry["success"] for entry in await host.logs()] == [False] * failing + [True] * (failing < 3)


async def test_a_step_that_is_late_is_left(host: Host) -> None:
    """No first byte in time: the next step answers, and the provider sees its caller leave."""
    slow = step(host, "hang=before_headers", config={"requestTimeout": 50})
    status, _, headers = await host.post("default", [slow, step(host)])

    assert (status, headers["cf-aig-step"]) == (200, "1")
    assert await host.running.account.calls.settled(5)
    assert [call.outcome for call in host.running.account.calls.calls] == ["client_left", "answered"]


async def test_a_late_answer_is_an_error_where_nothing_else_is_left(host: Host) -> None:
    """A direct call is told of it."""
    headers = emulating(host, "hang=before_headers") | {"cf-aig-request-timeout": "50"}
    status, told, _ = await host.post(f"default/workers-ai/{LLAMA}", SAID, headers)

    assert (status, told["error"][0]["code"]) == (504, 2005)


async def test_a_failing_provider_is_asked_as_often_as_wished(host: Host) -> None:
    """Each try has its entry; the last one's error comes through."""
    headers = emulating(host, "status=500") | {"cf-aig-max-attempts": "3", "cf-aig-retry-delay": "0"}
    status, _, _ = await host.post(f"default/workers-ai/{LLAMA}", SAID, headers)

    assert status == 500
    assert len(await host.logs()) == 3


async def test_answers_are_kept_when_wished(host: Host) -> None:
    """MISS, then HIT with the same bytes; nobody is asked, no rate is counted, and the log says so."""
    headers = host.tokens | {"cf-aig-cache-ttl": "60"}
    first, second = [await host.post(f"default/workers-ai/{LLAMA}", SAID, headers) for _ in range(2)]
    skipped = await host.post(f"default/workers-ai/{LLAMA}", SAID, headers | {"cf-aig-skip-cache": "true"})

    assert [reply[2]["cf-aig-cache-status"] for reply in (first, second, skipped)] == ["MISS", "HIT", "MISS"]
    assert first[1] == second[1]
    assert len(host.running.account.calls.calls) == 2
    assert [entry["cached"] for entry in await host.logs()] == [False, True, False]


async def test_streams_and_errors_are_not_kept(host: Host) -> None:
    """Each is asked anew."""
    headers = host.tokens | {"cf-aig-cache-ttl": "60"}
    url = f"{host.origin}/v1/{host.running.account_id}/default/workers-ai/{LLAMA}"
    for _ in range(2):
        async with host.http.post(url, json={**SAID, "stream": True}, headers=headers) as response:
            assert (await response.read()).endswith(b"data: [DONE]\n\n")
        await host.post(f"default/workers-ai/{LLAMA}", SAID, headers | {"x-emulate": "status=500"})

    assert len(host.running.account.calls.calls) == 4


async def test_a_broken_stream_is_broken_for_the_caller(host: Host) -> None:
    """What the provider cuts off does not look whole."""
    url = f"{host.origin}/v1/{host.running.account_id}/default/workers-ai/{LLAMA}"
    body = {**SAID, "stream": True}
    with pytest.raises(aiohttp.ClientError):
        async with host.http.post(url, json=body, headers=emulating(host, "cut_after=2")) as response:
            await response.read()


@pytest.mark.parametrize("technique", ["fixed", "sliding"])
async def test_calls_are_counted(host: Host, technique: str) -> None:
    """At the same moment too: as many as the limit pass, the others get 2003."""
    limit = {"rate_limiting_limit": 3, "rate_limiting_interval": 86_400, "rate_limiting_technique": technique}
    await host.manage("POST", "", {"id": "tight", **MANDATORY, **limit})
    replies = await asyncio.gather(*(host.post(f"tight/workers-ai/{LLAMA}", SAID) for _ in range(5)))

    assert sorted(status for status, _, _ in replies) == [200, 200, 200, 429, 429]


async def test_a_header_sends_calls_of_the_api_through_a_gateway(host: Host) -> None:
    """The same call, with the gateway's headers; an unknown one is told before the model is looked at."""
    own = {"authorization": f"Bearer {host.running.token}"}
    for name, model, status in (("default", LLAMA, 200), ("nowhere", "@cf/none", 400)):
        url = f"{host.api}/ai/run/{model}"
        async with host.http.post(url, json=SAID, headers=own | {"cf-aig-gateway-id": name}) as response:
            told = await response.json()
            assert (response.status, "cf-aig-log-id" in response.headers) == (status, status == 200)
    assert told["errors"][0]["code"] == 2001


async def test_a_wish_that_is_none_is_refused_in_the_words_of_the_address(host: Host) -> None:
    """On the host and where a header names the gateway: 400 and what was expected."""
    wrong = host.tokens | {"cf-aig-max-attempts": "99", "cf-aig-gateway-id": "default"}
    there = await host.post(f"default/workers-ai/{LLAMA}", SAID, wrong)
    async with host.http.post(f"{host.api}/ai/run/{LLAMA}", json=SAID, headers=wrong) as response:
        told = await response.json()

    assert (there[0], there[1]["error"][0]["code"]) == (400, 2005)
    assert (response.status, told["errors"][0]["code"]) == (400, 2005)
    assert "cf-aig-max-attempts" in told["errors"][0]["message"]


async def test_parameters_of_the_address_go_on_to_the_provider(host: Host) -> None:
    """What is to be queued is queued, by either way; with another parameter it is another question."""
    batch, model = {"requests": [{"text": "hi"}]}, "@cf/baai/bge-m3"
    headers = host.tokens | {"cf-aig-cache-ttl": "60"}
    _, queued, _ = await host.post(f"default/workers-ai/run/{model}?queueRequest=true", batch, headers)
    url = f"{host.api}/ai/run/{model}?queueRequest=true"
    async with host.http.post(
        url, json=batch, headers=headers | {"cf-aig-gateway-id": "default"}
    ) as response:
        named = await response.json()
    first, other, again = [
        (await host.post(f"default/workers-ai/{LLAMA}{query}", SAID, headers))[2]["cf-aig-cache-status"]
        for query in ("?a=1", "?a=2", "?a=1")
    ]

    assert (queued["result"]["status"], named["result"]["status"]) == ("queued", "queued")
    assert (first, other, again) == ("MISS", "MISS", "HIT")


async def test_gateways_are_made_shown_changed_and_deleted(host: Host) -> None:
    """With the fields of the API; two of one id are refused, and a missing field is named."""
    made = await host.manage("POST", "", {"id": "mine", **MANDATORY})
    twice = await host.manage("POST", "", {"id": "mine", **MANDATORY})
    short = await host.manage("POST", "", {"id": "other"})
    changed = await host.manage("PUT", "/mine", {**MANDATORY, "cache_ttl": 60})
    listed = await host.manage("GET", "?search=mi")
    address = await host.manage("GET", "/mine/url/openai")
    deleted = await host.manage("DELETE", "/mine")
    gone = await host.manage("GET", "/mine")

    assert [one[0] for one in (made, twice, short, changed, deleted, gone)] == [200, 409, 400, 200, 200, 404]
    assert "cache_ttl" in short[1]["errors"][0]["message"] or "missing" in short[1]["errors"][0]["message"]
    assert [row["cache_ttl"] for row in listed[1]["result"]] == [60]
    assert address[1]["result"].endswith(f"/v1/{host.running.account_id}/mine/openai")


async def test_the_log_has_what_was_asked_and_may_be_judged(host: Host) -> None:
    """Tokens, metadata of five entries, the bodies unless they are not wanted; feedback stays."""
    metadata = json.dumps({str(i): i for i in range(9)})
    await host.post(f"default/workers-ai/{LLAMA}", SAID, host.tokens | {"cf-aig-metadata": metadata})
    await host.post(f"default/workers-ai/{LLAMA}", SAID, host.tokens | {"cf-aig-collect-log": "false"})
    (entry,) = await host.logs()
    without = host.tokens | {"cf-aig-collect-log-payload": "false"}
    _, _, told = await host.post(f"default/workers-ai/{LLAMA}", SAID, without)
    _, bare = await host.manage("GET", f"/default/logs/{told['cf-aig-log-id']}")
    status, patched = await host.manage("PATCH", f"/default/logs/{entry['id']}", {"feedback": -1})
    _, shown = await host.manage("GET", f"/default/logs/{entry['id']}")
    _, asked = await host.manage("GET", f"/default/logs/{entry['id']}/request")

    assert entry["tokens_in"] > 0
    assert entry["model"] == LLAMA
    assert json.loads(entry["metadata"]) == {str(i): i for i in range(5)}
    assert (status, patched["result"]["feedback"], shown["result"]["feedback"]) == (200, -1, -1)
    assert asked == SAID
    assert (bare["result"]["request_head"], bare["result"]["response_head"]) == ("", "")
    assert await host.logs("&filters.key=feedback&filters.operator=eq&filters.value=1") == []
