"""A Workers AI backend behind an AI Gateway, through the real router."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from router_process import Router, stopped_at_end

from hybrid_router.emulator.server import Running, serve
from hybrid_router.emulator.settings import DEFAULT_GATEWAY_TOKEN, Settings

TOKEN = "canary-token-of-the-cloud"
CONFIG = """
server: {{ listen: 127.0.0.1:0 }}
backends:
  cf:
    type: workers_ai
    account_id: {account}
    token: {{ env: CF_TOKEN }}
    base_url: {base_url}
    gateway: {{ id: default, through: host, base_url: {host}/v1, token: {{ env: AIG_TOKEN }}, cache_ttl: 1h }}
aliases:
  talk: {{ try: [ "cf/@cf/meta/llama-3.2-1b-instruct" ] }}
"""


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[tuple[Router, Running]]:
    """A router whose only backend is behind a gateway that wants both tokens."""
    async with AsyncExitStack() as stack:
        cloud = await stack.enter_async_context(serve(Settings(token=TOKEN)))
        host = cloud.base_url.removesuffix("/client/v4")
        config = CONFIG.format(account=cloud.account_id, base_url=cloud.base_url, host=host)
        environ = {"CF_TOKEN": TOKEN, "AIG_TOKEN": DEFAULT_GATEWAY_TOKEN}
        started = Router(config, tmp_path, environ=environ)
        stack.enter_context(stopped_at_end(started))
        yield started, cloud


async def test_an_answer_that_the_gateway_kept_is_told_as_one_and_costs_nothing(
    stage: tuple[Router, Running],
) -> None:
    """The decision record has cache, step and log entry; the budget is what the first one used."""
    router, cloud = stage
    asked = {"model": "talk", "messages": [{"role": "user", "content": "count to 3"}]}
    attempts: list[dict[str, Any]] = []
    async with aiohttp.ClientSession() as http:
        for _ in range(2):
            async with http.post(f"{router.url}/v1/chat/completions", json=asked) as response:
                assert (await response.json())["choices"][0]["message"]["content"] == "1 2 3"
                decision = response.headers["x-router-decision"]
            async with http.get(f"{router.url}/router/decisions/{decision}") as response:
                attempts += (await response.json())["attempts"]

    first, again = attempts
    assert first["remarks"]["cf-aig-cache-status"] == "MISS"
    assert again["remarks"]["cf-aig-cache-status"] == "HIT"
    assert again["remarks"]["cf-aig-step"] == "0"
    assert first["remarks"]["cf-aig-log-id"] != again["remarks"]["cf-aig-log-id"]
    assert (first["neurons"] > 0, again["neurons"]) == (True, 0.0)
    assert len(cloud.account.calls.calls) == 1
