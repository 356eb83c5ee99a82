"""Anthropic's own package against the emulator: what it accepts is the API's form."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anthropic
import pytest

from hybrid_router.emulator.anthropic import serve
from hybrid_router.emulator.settings import Settings
from hybrid_router.emulator.stage import RunningCloud

TOOL: anthropic.types.ToolParam = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


RESULT = {"type": "tool_result", "tool_use_id": "a"}


@pytest.fixture
async def running() -> AsyncIterator[RunningCloud]:
    """The emulator."""
    async with serve(Settings()) as started:
        yield started


@pytest.fixture
async def client(running: RunningCloud) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """The package, pointed at it."""
    root, token = running.root, running.token
    async with anthropic.AsyncAnthropic(base_url=root, api_key=token, max_retries=0) as made:
        yield made


async def test_the_package_reads_a_whole_message(client: anthropic.AsyncAnthropic) -> None:
    """Text, the reason for its end, and what it cost."""
    told = await client.messages.create(
        model="claude-test", max_tokens=2, messages=[{"role": "user", "content": "count to 3"}]
    )

    assert [block.text for block in told.content if block.type == "text"] == ["1 2"]
    assert told.stop_reason == "max_tokens"
    assert (told.usage.input_tokens, told.usage.output_tokens) == (6, 2)


async def test_the_package_reads_a_stream(client: anthropic.AsyncAnthropic) -> None:
    """Thoughts and text add up to the message that is told whole."""
    async with client.messages.stream(
        model="claude-test", max_tokens=50, messages=[{"role": "user", "content": "think: count to 3"}]
    ) as stream:
        told = await stream.get_final_message()

    assert [block.type for block in told.content] == ["thinking", "text"]
    assert [block.text for block in told.content if block.type == "text"] == ["1 2 3"]
    assert told.stop_reason == "end_turn"


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "plain"])
async def test_the_package_reads_a_tool_s_call(client: anthropic.AsyncAnthropic, streamed: bool) -> None:
    """Its input is an object, whether it comes in pieces or not."""
    messages: list[anthropic.types.MessageParam] = [{"role": "user", "content": "the weather, please"}]
    told: anthropic.types.Message
    if streamed:
        async with client.messages.stream(
            model="claude-test", max_tokens=50, messages=messages, tools=[TOOL]
        ) as stream:
            told = await stream.get_final_message()
    else:
        told = await client.messages.create(
            model="claude-test", max_tokens=50, messages=messages, tools=[TOOL]
        )

    (block,) = told.content
    assert block.type == "tool_use"
    assert (block.name, block.input) == ("weather", {"city": "text"})
    assert told.stop_reason == "tool_use"


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("status=529", anthropic.APIStatusError),
        ("status=429, retry-after=7", anthropic.RateLimitError),
        ("status=404", anthropic.NotFoundError),
    ],
)
async def test_the_package_names_a_fault(
    client: anthropic.AsyncAnthropic, header: str, kind: type[anthropic.APIStatusError]
) -> None:
    """By status, with the API's own document."""
    with pytest.raises(kind) as caught:
        await client.messages.create(
            model="claude-test",
            max_tokens=2,
            messages=[{"role": "user", "content": "hi"}],
            extra_headers={"x-emulate": header},
        )

    assert caught.value.type is not None


async def test_the_package_names_an_error_in_a_stream(client: anthropic.AsyncAnthropic) -> None:
    """After some of the answer, by an event of that name."""
    said: list[str] = []

    async def listen() -> None:
        async with client.messages.stream(
            model="claude-test",
            max_tokens=50,
            messages=[{"role": "user", "content": "count to 3"}],
            extra_headers={"x-emulate": "error_after=5"},
        ) as stream:
            async for text in stream.text_stream:
                said.append(text)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        await listen()
    assert said == ["1", " 2"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"messages": []},
        {"temprature": 1},
        {"stop_sequences": [" "]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b "}]},
        {"messages": [{"role": "user", "content": [{"text": "a"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "a"}]}]},
        {"messages": [{"role": "user", "content": [RESULT | {"content": 7}]}]},
        {"messages": [{"role": "user", "content": [RESULT | {"content": ["a"]}]}]},
    ],
    ids=[
        "no tokens",
        "no message",
        "a field that is none",
        "a blank stop",
        "a blank end",
        "no kind",
        "no call",
        "a result that is none",
        "a block that is none",
    ],
)
async def test_what_the_api_refuses_is_refused(
    client: anthropic.AsyncAnthropic, wrong: dict[str, object]
) -> None:
    """So a router that sends it is found out here."""
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "a"}], **wrong}
    with pytest.raises(anthropic.BadRequestError):
        await client.post("/v1/messages", body=body, cast_to=object)


async def test_only_the_token_opens_it(running: RunningCloud) -> None:
    """Another is refused, and both show nowhere in what was seen."""
    async with anthropic.AsyncAnthropic(base_url=running.root, api_key="another", max_retries=0) as client:
        with pytest.raises(anthropic.AuthenticationError):
            await client.messages.create(
                model="m", max_tokens=2, messages=[{"role": "user", "content": "hi"}]
            )

    (seen,) = running.account.calls.calls
    assert "another" not in str(seen.headers)
    assert not seen.auth_ok
