"""Clients of an AI Gateway, unchanged but for the host, answered by a model of our own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import requests
from router_policy import place_model
from router_process import Router, stopped_at_end

pytestmark = [pytest.mark.model, pytest.mark.timeout(90)]

KEY = "alice-key-0123456789"
CANARY = "sk-canary-5fd1c0ffee"
ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"
LLAMA = "@cf/meta/llama-2-7b-chat-int8"
SAID: list[Any] = [{"role": "user", "content": "count to 9"}]
POLICY = """
server:
  listen: 127.0.0.1:0
  keys: [{ name: alice, sha256: DIGEST }]
manifest: MANIFEST
backends:
  local:
    type: local
    models:
      smollm2: { weights: smol, context: 512, threads: 1, parallel: 2 }
aliases:
  home: { try: local/smollm2, timeouts: { load: 60s, first_token: 60s, between_tokens: 30s, total: 80s } }
gateways:
  site: { providers: { openai: { "gpt-*": home }, workers-ai: { "@cf/*": home } } }
  shop: { cache_ttl: 5m, providers: { anthropic: { "claude-*": home } } }
"""


@pytest.fixture(scope="module")
def service(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A router with two gateways in front of one small model."""
    manifest = place_model(tmp_path_factory.mktemp("models"), model_path)
    policy = POLICY.replace("MANIFEST", str(manifest))
    policy = policy.replace("DIGEST", hashlib.sha256(KEY.encode()).hexdigest())
    started = Router(policy, tmp_path_factory.mktemp("gateway_router"))
    with stopped_at_end(started):
        yield started


def post(service: Router, path: str, body: Any, **headers: str) -> requests.Response:
    """POST to the gateway host's path, with the gateway's key and a provider's."""
    told = {"cf-aig-authorization": f"Bearer {KEY}", "Authorization": f"Bearer {CANARY}", **headers}
    return requests.post(f"{service.url}/v1/{ACCOUNT}/{path}", json=body, headers=told, timeout=80)


def test_the_openai_package_goes_through_a_gateway(service: Router) -> None:
    """Only its base URL and the gateway's header are other than for Cloudflare; plain and streamed agree."""
    with openai.OpenAI(
        base_url=f"{service.url}/v1/{ACCOUNT}/site/openai",
        api_key=CANARY,
        default_headers={"cf-aig-authorization": f"Bearer {KEY}"},
        max_retries=0,
        timeout=80,
    ) as client:
        # The first one computes the prompt: a near-tie may fall otherwise where it is not there yet.
        client.chat.completions.create(model="gpt-4o", messages=SAID, max_tokens=1, temperature=0)
        plain = client.chat.completions.with_raw_response.create(
            model="gpt-4o", messages=SAID, max_tokens=8, temperature=0
        )
        reply = plain.parse()
        stream = client.chat.completions.create(
            model="gpt-4o", messages=SAID, max_tokens=8, temperature=0, stream=True
        )
        said = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)

    assert reply.model == "gpt-4o"
    assert reply.choices[0].message.content == said != ""
    assert plain.headers["cf-aig-step"] == "0"
    assert plain.headers["x-router-model"] == "smollm2"


def test_a_universal_call_falls_back_to_a_model_at_home(service: Router) -> None:
    """The first two providers have nobody here; the third does, and answers in its own form."""
    bearer = {"Authorization": f"Bearer {CANARY}", "Content-Type": "application/json"}
    chats = {"endpoint": "chat/completions", "headers": bearer}
    steps = [
        {"provider": "openai", **chats, "query": {"model": "o9", "messages": SAID}},
        {"provider": "groq", **chats, "query": {"model": "x", "messages": SAID}},
        {"provider": "workers-ai", **chats, "endpoint": LLAMA, "query": {"messages": SAID, "max_tokens": 4}},
    ]
    reply = post(service, "site", steps)

    assert reply.status_code == 200, reply.text
    assert reply.headers["cf-aig-step"] == "2"
    assert reply.json()["result"]["response"]


def test_the_second_of_two_same_questions_is_a_hit(service: Router) -> None:
    """By this gateway's own setting; the other one keeps nothing."""
    body = {"model": "claude-x", "max_tokens": 4, "messages": SAID}
    kept = [post(service, "shop/anthropic/v1/messages", body) for _ in range(2)]
    other = [
        post(service, "site/openai/chat/completions", {"model": "gpt-x", "messages": SAID, "max_tokens": 1})
    ]

    assert [reply.headers.get("cf-aig-cache-status") for reply in [*kept, *other]] == ["MISS", "HIT", None]
    assert kept[0].content == kept[1].content
    assert kept[0].json()["content"][0]["text"]


def test_the_log_tells_of_calls_and_a_providers_key_shows_nowhere(service: Router) -> None:
    """Models, tokens and steps are told; what was asked is not, nor a key, here or in the router's log."""
    reply = post(
        service, "site/openai/chat/completions", {"model": "gpt-4", "messages": SAID, "max_tokens": 2}
    )
    logs = f"{service.url}/client/v4/accounts/{ACCOUNT}/ai-gateway/gateways/site/logs"
    bearer = {"Authorization": f"Bearer {KEY}"}
    listed = requests.get(logs, headers=bearer, timeout=10).json()
    newest = listed["result"][0]

    assert (newest["id"], newest["model"]) == (reply.headers["cf-aig-log-id"], "gpt-4")
    assert newest["tokens_out"] == 2
    assert CANARY not in str(listed) + service.log_text
    assert "count to 9" not in str(listed)
