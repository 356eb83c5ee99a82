"""An emulator on a real port with a client beside it, for the tests of this room."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from hybrid_router.catalogue.workers_ai import Model
from hybrid_router.emulator.server import Running, serve
from hybrid_router.emulator.settings import Settings

CLASSIC = "@cf/meta/llama-3.2-1b-instruct"
CHAT = "@cf/qwen/qwen3.8-27b"
BY_INPUT = "@cf/openai/gpt-oss-20b"
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "the weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "its name"}},
            "required": ["city"],
        },
    },
}


def token_neurons(model: Model, prompt: int, completion: int, cached: int = 0) -> float:
    """What a call costs at the listed rates; cached tokens are among the prompt's."""
    rates = {line.unit: line.neurons for line in model.price}
    rate_in, rate_out = rates.get("per M input tokens", 0.0), rates.get("per M output tokens", 0.0)
    rate_cached = rates.get("per M cached input tokens", rate_in)
    return ((prompt - cached) * rate_in + cached * rate_cached + completion * rate_out) / 1_000_000


def said(text: str) -> list[dict[str, Any]]:
    """One user message."""
    return [{"role": "user", "content": text}]


def data_lines(text: str) -> list[str]:
    """What each event of a stream holds; every event is one `data:` line."""
    blocks = text.split("\n\n")
    assert blocks.pop() == "", "a stream ends with a blank line"
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    return [block.removeprefix("data: ") for block in blocks]


def documents(text: str) -> list[dict[str, Any]]:
    """The JSON documents of a whole stream, which ends with one `[DONE]`."""
    *lines, last = data_lines(text)
    assert last == "[DONE]"
    return [json.loads(line) for line in lines]


class HandClock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 20, 23, 58, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        """The time now."""
        return self.time

    def forward(self, **by: float) -> None:
        """Move, in the words of `timedelta`."""
        self.time += timedelta(**by)


@dataclass(frozen=True)
class Cloud:
    """A running emulator and a client that has its token."""

    running: Running
    http: aiohttp.ClientSession

    @property
    def ai_url(self) -> str:
        """The account's `…/ai`."""
        return f"{self.running.base_url}/accounts/{self.running.account_id}/ai"

    def post(self, path: str, body: Any, *, fault: str | None = None) -> Any:
        """POST below `…/ai`, as an async context manager."""
        headers = {} if fault is None else {"x-emulate": fault}
        return self.http.post(self.ai_url + path, json=body, headers=headers, allow_redirects=False)

    async def reply(self, path: str, body: Any, *, fault: str | None = None) -> tuple[int, Any]:
        """Status and JSON of a plain reply."""
        async with self.post(path, body, fault=fault) as response:
            return response.status, await response.json()

    async def run(self, model: str, body: Any, *, fault: str | None = None) -> tuple[int, Any]:
        """The same for `/run/{model}`."""
        return await self.reply(f"/run/{model}", body, fault=fault)

    async def run_bytes(self, model: str, body: Any) -> bytes:
        """The body of a reply of any type."""
        async with self.post(f"/run/{model}", body) as response:
            assert response.status == 200
            content: bytes = await response.read()
            return content

    async def stream(self, path: str, body: Any, *, fault: str | None = None) -> str:
        """The whole text of a stream."""
        async with self.post(path, body | {"stream": True}, fault=fault) as response:
            assert (response.status, response.content_type) == (200, "text/event-stream")
            text: str = await response.text()
            return text

    @staticmethod
    def decoded(content: bytes) -> dict[str, Any]:
        """A body that is a JSON object."""
        document = json.loads(content)
        assert isinstance(document, dict)
        return document

    async def chat(self, body: Any, model: str = CLASSIC) -> tuple[int, Any]:
        """A plain reply of the OpenAI-compatible address."""
        return await self.reply("/v1/chat/completions", {"model": model} | body)

    async def chat_stream(self, body: Any, model: str = CLASSIC) -> str:
        """A stream of the OpenAI-compatible address."""
        return await self.stream("/v1/chat/completions", {"model": model} | body)

    async def get(self, url: str) -> tuple[int, Any]:
        """Status and JSON of a GET of a whole address."""
        async with self.http.get(url) as response:
            return response.status, await response.json()

    async def neurons(self) -> float:
        """What `/emulator/neurons` says was used today."""
        _, told = await self.get(self.running.control_url + "/neurons")
        used: float = told["used"]
        return used

    async def settled_calls(self) -> list[dict[str, Any]]:
        """The calls seen, once none is running any more."""
        _, told = await self.get(self.running.control_url + "/calls?settle=10")
        assert told["ready"]
        calls: list[dict[str, Any]] = told["calls"]
        return calls


def first_code(document: dict[str, Any]) -> int:
    """The code of a failed envelope, which has the shape of one."""
    assert document["success"] is False
    assert document["messages"] == []
    assert document["result"] in ({}, None)
    code: int = document["errors"][0]["code"]
    return code


@asynccontextmanager
async def emulated(settings: Settings | None = None, **chosen: Any) -> AsyncGenerator[Cloud]:
    """An emulator with these settings on a free port."""
    async with serve(settings or Settings(**chosen)) as running:
        headers = {"authorization": f"Bearer {running.token}"}
        timeout = aiohttp.ClientTimeout(total=15)
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as http:
            yield Cloud(running, http)
