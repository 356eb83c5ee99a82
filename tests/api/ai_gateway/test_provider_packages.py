"""The providers' official packages against the gateway: their idea of the API, not ours."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic import AsyncAnthropic
from anthropic.types import MessageParam, ToolParam
from gateways_played import ACCOUNT, KEYS, Aliased, door
from huggingface_hub import AsyncInferenceClient

from hybrid_router.core.event import Finish, Reasoning, Text, ToolFragment, Usage

SAID: list[MessageParam] = [{"role": "user", "content": "hi"}]
TOOL: ToolParam = {
    "name": "get_weather",
    "description": "of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
SCRIPT: list[Any] = [
    [Reasoning("hm"), Text("I "), Text("look")],
    [
        ToolFragment(0, id="call_1", name="get_weather"),
        ToolFragment(0, '{"city": '),
        ToolFragment(0, '"Oslo"}'),
    ],
    [ToolFragment(1, '{"city": "Rome"}', id="call_2", name="get_weather")],
    [Finish("tool_calls"), Usage(7, 3, cached_tokens=2)],
]


@pytest.mark.parametrize("streams", [False, True])
async def test_anthropics_package_reads_thoughts_text_and_tools(streams: bool) -> None:
    """The same message, whole or built from events: block by block, arguments as objects, usage counted."""
    async with (
        door(Aliased({"fast": [SCRIPT]})) as played,
        AsyncAnthropic(
            base_url=f"http://127.0.0.1:{played.port}/v1/{ACCOUNT}/site/anthropic",
            api_key=KEYS["alice"],
            max_retries=0,
        ) as client,
    ):
        asked: Any = {"model": "fast", "max_tokens": 99, "messages": SAID, "tools": [TOOL]}
        if streams:
            async with client.messages.stream(**asked) as stream:
                message = await stream.get_final_message()
        else:
            message = await client.messages.create(**asked)

    told = [block.model_dump(exclude_none=True) for block in message.content]
    assert [block["type"] for block in told] == ["thinking", "text", "tool_use", "tool_use"]
    assert (told[0]["thinking"], told[1]["text"]) == ("hm", "I look")
    assert [(block["id"], block["input"]) for block in told[2:]] == [
        ("call_1", {"city": "Oslo"}),
        ("call_2", {"city": "Rome"}),
    ]
    assert message.stop_reason == "tool_use"
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (5, 2)
    assert message.usage.output_tokens == 3


async def test_anthropics_conversation_is_understood() -> None:
    """System, a picture, a tool's call and its result, the choice of a tool: nothing is lost on the way."""
    pixel = "iVBORw0KGgo="
    messages: list[Any] = [
        {
            "role": "user",
            "content": [
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": pixel}},
                {"type": "text", "text": "where?"},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "let me see"},
                {"type": "tool_use", "id": "t1", "name": "get_weather", "input": {"city": "Oslo"}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "rain"}]},
    ]
    answers = Aliased()
    async with (
        door(answers) as played,
        AsyncAnthropic(
            base_url=f"http://127.0.0.1:{played.port}/v1/{ACCOUNT}/site/anthropic",
            auth_token=KEYS["alice"],
            api_key=None,
            max_retries=0,
        ) as client,
    ):
        await client.messages.create(
            model="fast",
            max_tokens=9,
            system="be brief",
            messages=messages,
            tools=[TOOL],
            tool_choice={"type": "tool", "name": "get_weather"},
            stop_sequences=["END"],
            extra_body={"temperature": 0.5, "top_k": 7},
        )

    (call,) = answers.calls
    system, user, assistant, tool = call.messages
    assert (system.role, system.text, user.text) == ("system", "be brief", "where?")
    assert f"data:image/png;base64,{pixel}" in repr(user.content)
    assert assistant.tool_calls is not None
    assert (assistant.text, assistant.tool_calls[0].function.arguments) == ("let me see", '{"city":"Oslo"}')
    assert (tool.role, tool.tool_call_id, tool.text) == ("tool", "t1", "rain")
    assert call.tool_choice == {"type": "function", "function": {"name": "get_weather"}}
    assert (call.sampling.stop, call.sampling.temperature, call.sampling.top_k) == (("END",), 0.5, 7)


async def test_hugging_faces_package_reads_a_text() -> None:
    """The task API at an address of one model."""
    async with door(Aliased({"org/model": [[[Text("good"), Finish("stop")]]]})) as played:
        base = f"http://127.0.0.1:{played.port}/v1/{ACCOUNT}/site/huggingface/models/org/model"
        async with AsyncInferenceClient(model=base, token=KEYS["alice"]) as client:
            said = await client.text_generation("hi", return_full_text=False)

    assert said == "good"
