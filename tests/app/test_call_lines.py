"""What the log says of a call that has ended."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from scripted_answers import ScriptedAnswers, exchange, listening, request_bytes

from hybrid_router.api.generation import Fronts
from hybrid_router.app.lines import call_line
from hybrid_router.config.front_schema import Dialects, FrontGateway, WorkersAIDialect
from hybrid_router.core.secret import Secret
from hybrid_router.observe.logs import Logs, LogSettings

ACCOUNT, SECRET_ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353", "f" * 32
LLAMA = "@cf/meta/llama-3.2-1b-instruct"
FRONTS = Fronts(
    dialects=Dialects(workers_ai=WorkersAIDialect(models={"@cf/*": "fast"})),
    gateways={"site": FrontGateway()},
)
SAY = {"messages": [{"role": "user", "content": "hi"}]}


async def line_of(path: str, body: Any, folder: Path) -> dict[str, Any]:
    """The line of a call to `path`."""
    written = folder / "log"
    settings = LogSettings(format="json", secrets=(Secret(SECRET_ACCOUNT),))
    with Logs(settings, os.open(written, os.O_WRONLY | os.O_CREAT)) as logs:
        async with listening(ScriptedAnswers(), on_call=partial(call_line, logs), fronts=FRONTS) as listener:
            reply = await exchange(listener.port, request_bytes("POST", path, msgspec.json.encode(body)))
            assert reply.status == 200
    found: dict[str, Any] = json.loads(written.read_text())
    return found


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", SAY | {"model": "fast"}),
        (f"/client/v4/accounts/{ACCOUNT}/ai/run/{LLAMA}", SAY),
        (f"/client/v4/accounts/{ACCOUNT}/ai/v1/chat/completions", SAY | {"model": LLAMA}),
        (f"/v1/{ACCOUNT}/site/workers-ai/{LLAMA}", SAY),
        (f"/v1/{ACCOUNT}/site", [{"provider": "workers-ai", "endpoint": LLAMA, "query": SAY}]),
    ],
)
async def test_a_calls_line_has_its_own_path(path: str, body: Any, tmp_path: Path) -> None:
    """In whatever dialect it came, and without its query, which may hold anything."""
    line = await line_of(f"{path}?token=canary", body, tmp_path)

    assert (line["event"], line["method"], line["path"]) == ("call", "POST", path)


async def test_an_account_that_is_a_secret_here_is_hidden(tmp_path: Path) -> None:
    """A path that holds what the router knows as a secret is written without it."""
    line = await line_of(f"/client/v4/accounts/{SECRET_ACCOUNT}/ai/run/{LLAMA}", SAY, tmp_path)

    assert line["path"] == f"/client/v4/accounts/[redacted]/ai/run/{LLAMA}"
