"""Models that take turns in the memory of a real service."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
import tiny_gguf
from router_process import Emulator, Router, eventually, stopped_at_end

pytestmark = pytest.mark.model
POLICY = """
server: { listen: "127.0.0.1:0" }
log: { level: debug } # it tells when a load begins
manifest: MANIFEST
residency: { ram: 160MiB, swap_wait: 100ms }
timeouts: { connect: 5s, load: 60s, first_token: 60s, between_tokens: 60s, total: 120s }
backends:
  local:
    type: local
    models:
      one: { context: 64, parallel: 2, threads: 1, memory: 100MiB }
      two: { context: 64, parallel: 2, threads: 1, memory: 100MiB, preload: false }
      big: { weights: one, context: 64, memory: 2GiB }
  cloudflare:
    type: workers_ai
    base_url: CLOUD
    account_id: { env: CLOUDFLARE_ACCOUNT_ID }
    token: { env: CLOUDFLARE_API_TOKEN }
aliases:
  one: { try: local/one }
  two: { try: local/two }
  big: { try: local/big }
  soon: { try: [local/two, cloudflare/@cf/meta/llama-3.2-1b-instruct], while_loading: cloud }
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, emulator: Emulator) -> Iterator[Router]:
    """A router with room for one of its two models."""
    folder = tmp_path_factory.mktemp("turns")
    listed = []
    for name in ("one", "two"):
        content = tiny_gguf.write(folder / f"{name}.gguf").read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        listed.append(f"  {name}: {{ file: {name}.gguf, sha256: {digest}, size_bytes: {len(content)} }}\n")
    (folder / "manifest.yaml").write_text("models:\n" + "".join(listed))
    text = POLICY.replace("MANIFEST", str(folder / "manifest.yaml")).replace("CLOUD", emulator.base_url, 1)
    started = Router(text, folder / "router")
    with stopped_at_end(started):
        yield started


def ask(router: Router, path: str, **body: Any) -> tuple[int, dict[str, Any], str]:
    """Status, body, and who answered."""
    connection = HTTPConnection(urlsplit(router.url).netloc, timeout=60)
    try:
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read()), reply.headers.get("x-router-backend", "")
    finally:
        connection.close()


def numbers(router: Router) -> dict[str, float]:
    """What /metrics says."""
    connection = HTTPConnection(urlsplit(router.url).netloc, timeout=60)
    try:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    finally:
        connection.close()
    return {
        name: float(number) for name, _, number in (line.rpartition(" ") for line in lines if line[0] != "#")
    }


def happened(router: Router) -> list[tuple[str, str]]:
    """What became of which model, in order."""
    return [
        (line["event"].removeprefix("model "), line["model"])
        for line in router.log()
        if line["event"] in {"model loading", "model resident", "model evicted"}
    ]


def test_two_models_answer_from_room_for_one(service: Router) -> None:
    """One leaves before the other is loaded, and one child is there at any time."""
    ask(service, "/v1/completions", model="two", prompt="ab", max_tokens=2)
    eventually(lambda: happened(service)[-1:] == [("resident", "local/two")], "a known beginning")
    before = len(happened(service))
    for alias in ("one", "two", "one"):
        status, body, _ = ask(service, "/v1/completions", model=alias, prompt="ab", max_tokens=2)
        assert status == 200, body

    turns = [(what, f"local/{model}") for model in ("one", "two", "one") for what in ("loading", "resident")]
    eventually(
        lambda: [each for each in happened(service)[before:] if each[0] != "evicted"] == turns, "three turns"
    )
    told = happened(service)[before:]
    assert told.index(("evicted", "local/one")) < told.index(("loading", "local/two"))
    assert len(service.children()) == 1
    left = [line for line in service.log() if line["event"] == "model evicted"][-1]
    assert (left["model"], left["reason"], left["for"]) == ("local/two", "room", "local/one")
    assert left["ram_bytes"] > 0


def test_a_look_at_the_service_loads_nothing(service: Router) -> None:
    """Health checks, lists and numbers leave everybody where they are."""
    ask(service, "/v1/completions", model="one", prompt="ab", max_tokens=2)
    eventually(lambda: happened(service)[-1:] == [("resident", "local/one")], "a known beginning")
    before, pids = happened(service), service.children()

    for path in ("/health", "/ready", "/metrics", "/v1/models", "/v1/models/two", "/"):
        assert looked(service, path) == 200, path

    ask(service, "/v1/completions", model="one", prompt="ab", max_tokens=2)  # a load would have had its turn
    assert (happened(service), service.children()) == (before, pids)


def looked(router: Router, path: str) -> int:
    connection = HTTPConnection(urlsplit(router.url).netloc, timeout=60)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_who_is_in_memory_is_told_in_numbers(service: Router) -> None:
    """Who is there, with how much, and how often each came and went."""
    for alias in ("two", "one"):
        ask(service, "/v1/completions", model=alias, prompt="ab", max_tokens=2)

    told = numbers(service)

    one, two = 'backend="local",model="one"', 'backend="local",model="two"'
    assert told[f"hybrid_router_model_resident{{{one}}}"] == 1
    assert told[f"hybrid_router_model_resident{{{two}}}"] == 0
    assert told['hybrid_router_model_memory_bytes{backend="local",kind="ram",model="one"}'] > 0
    assert told[f"hybrid_router_model_loads_total{{{two}}}"] >= 1
    assert told[f'hybrid_router_model_evictions_total{{{two},reason="room"}}'] >= 1


def test_a_model_beyond_the_budget_is_refused_by_name(service: Router) -> None:
    """With both numbers and what to do, and no process is started for it."""
    status, body, _ = ask(service, "/v1/completions", model="big", prompt="ab", max_tokens=2)

    assert status == 503
    assert "2.0 GiB" in body["error"]["message"]
    assert "160 MiB" in body["error"]["message"]
    assert "local/big" not in {model for _, model in happened(service)}


def test_the_cloud_answers_while_a_model_loads(service: Router) -> None:
    """And the model is loaded for the calls after that."""
    ask(service, "/v1/completions", model="one", prompt="ab", max_tokens=2)
    before = len(happened(service))
    chat = {"model": "soon", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}

    assert ask(service, "/v1/chat/completions", **chat)[2] == "cloudflare"
    eventually(lambda: ("resident", "local/two") in happened(service)[before:], "loaded meanwhile")
    assert ask(service, "/v1/chat/completions", **chat)[2] == "local"
