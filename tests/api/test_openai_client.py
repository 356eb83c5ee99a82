"""The official client, sync and async, against our own runner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from scripted_answers import ScriptedAnswers, listening

from hybrid_router.core.errors import BackendUnavailable, QuotaExhausted, StreamBroken
from hybrid_router.core.event import Finish, Text, ToolFragment, Usage

HI: Any = [{"role": "user", "content": "hi"}]
WEATHER: Any = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


@pytest.fixture
def answers() -> ScriptedAnswers:
    """The usual script."""
    return ScriptedAnswers()


@pytest.fixture
async def url(answers: ScriptedAnswers) -> AsyncGenerator[str]:
    """Where the router is."""
    async with listening(answers) as listener:
        yield listener.url + "/v1"


@pytest.fixture
async def client(url: str) -> AsyncGenerator[AsyncOpenAI]:
    """The async client; it asks once."""
    async with AsyncOpenAI(base_url=url, api_key="sk-none", max_retries=0) as opened:
        yield opened


async def _in_thread(url: str, ask: Callable[[OpenAI], Any]) -> Any:
    """Use the sync client beside our loop."""

    def run() -> Any:
        with OpenAI(base_url=url, api_key="sk-none", max_retries=0) as opened:
            return ask(opened)

    return await asyncio.to_thread(run)


async def test_async_chat(client: AsyncOpenAI) -> None:
    """A plain chat: text, finish reason, usage, request id."""
    reply = await client.chat.completions.create(model="fast", messages=HI)

    assert reply.choices[0].message.content == "Hello wörld"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.total_tokens) == (7, 10)
    assert reply.usage.prompt_tokens_details is not None
    assert reply.usage.prompt_tokens_details.cached_tokens == 2
    assert reply._request_id is not None
    assert reply._request_id.startswith("req_")


async def test_async_stream(client: AsyncOpenAI) -> None:
    """A streamed chat: the deltas join to the text, the last chunk has the usage."""
    stream = await client.chat.completions.create(
        model="fast", messages=HI, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]

    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello wörld"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3


async def test_sync_chat_and_stream(url: str) -> None:
    """The sync client reads the same."""

    def ask(opened: OpenAI) -> tuple[Any, str]:
        plain = opened.chat.completions.create(model="fast", messages=HI)
        stream = opened.chat.completions.create(model="fast", messages=HI, stream=True)
        return plain, "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    plain, streamed = await _in_thread(url, ask)
    assert plain.choices[0].message.content == streamed == "Hello wörld"


async def test_raw_responses_show_the_headers(url: str) -> None:
    """Who answered can be read beside the answer."""

    def ask(opened: OpenAI) -> Any:
        return opened.chat.completions.with_raw_response.create(model="fast", messages=HI)

    raw = await _in_thread(url, ask)
    assert raw.headers["x-router-backend"] == "scripted"
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.parse().choices[0].message.content == "Hello wörld"


async def test_completions(client: AsyncOpenAI, answers: ScriptedAnswers) -> None:
    """The older endpoint, plain and streamed."""
    plain = await client.completions.create(model="fast", prompt="Once", echo=True)
    stream = await client.completions.create(model="fast", prompt="Once", stream=True, stop=["x"])
    chunks = [chunk async for chunk in stream]

    assert plain.choices[0].text == "OnceHello wörld"
    assert "".join(chunk.choices[0].text for chunk in chunks) == "Hello wörld"
    assert answers.calls[1].sampling.stop == ("x",)


async def test_tool_calls_plain_and_streamed(client: AsyncOpenAI, answers: ScriptedAnswers) -> None:
    """The client's own accumulation of tool-call deltas gives what the plain reply says."""
    answers.script = [
        [ToolFragment(0, '{"city":', "call_1", "weather")],
        [ToolFragment(0, '"Oslo"}'), ToolFragment(1, "{}", "call_2", "weather")],
        [Finish("tool_calls"), Usage(5, 9)],
    ]
    plain = await client.chat.completions.create(model="fast", messages=HI, tools=WEATHER)
    async with client.chat.completions.stream(model="fast", messages=HI, tools=WEATHER) as stream:
        final = await stream.get_final_completion()

    for reply in (plain, final):
        calls = reply.choices[0].message.tool_calls
        assert calls is not None
        assert [(c.id, c.function.arguments) for c in calls if c.type == "function"] == [
            ("call_1", '{"city":"Oslo"}'),
            ("call_2", "{}"),
        ]
        assert reply.choices[0].finish_reason == "tool_calls"


async def test_models(client: AsyncOpenAI) -> None:
    """Listing and retrieving, a name with a slash included."""
    assert [model.id async for model in client.models.list()] == ["fast", "org/model"]
    assert (await client.models.retrieve("org/model")).owned_by == "hybrid-router"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("none")


async def test_errors_have_their_types(client: AsyncOpenAI, answers: ScriptedAnswers) -> None:
    """The client raises by status, with our code and param."""
    with pytest.raises(openai.BadRequestError) as bad:
        await client.chat.completions.create(model="fast", messages=HI, temperature=7)
    assert bad.value.param == "temperature"
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(model="gpt-x", messages=HI)
    assert missing.value.code == "model_not_found"
    answers.script = [QuotaExhausted("spent")]
    with pytest.raises(openai.RateLimitError) as spent:
        await client.chat.completions.create(model="fast", messages=HI)
    assert spent.value.code == "insufficient_quota"


async def test_a_broken_stream_raises(client: AsyncOpenAI, answers: ScriptedAnswers) -> None:
    """The in-band error becomes the client's exception; what came before it was delivered."""
    answers.script = [[Text("half")], StreamBroken("cut")]
    stream = await client.chat.completions.create(model="fast", messages=HI, stream=True)
    seen: list[str | None] = []

    async def read() -> None:
        async for chunk in stream:
            seen.append(chunk.choices[0].delta.content)  # noqa: PERF401 -- what was seen before it raised

    with pytest.raises(openai.APIError, match="cut"):
        await read()
    assert "".join(text or "" for text in seen) == "half"


@pytest.mark.parametrize(
    ("failure", "asked"), [(BackendUnavailable("down"), 2), (QuotaExhausted("spent"), 1)]
)
async def test_the_client_retries_only_what_may_work(
    url: str, answers: ScriptedAnswers, failure: BackendUnavailable, asked: int
) -> None:
    """A short outage is asked again after `retry-after-ms`; a spent allowance is not."""
    failure.retry_after_s = 0.01
    answers.script = [failure]
    async with AsyncOpenAI(base_url=url, api_key="sk-none", max_retries=1) as patient:
        with pytest.raises(openai.APIStatusError):
            await patient.chat.completions.create(model="fast", messages=HI)

    assert len(answers.calls) == asked
