"""Calls in Anthropic's words and answers out of them; its emulator refuses what the API refuses."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asking
import pytest
from asking import chat

from hybrid_router.backends.anthropic import Anthropic
from hybrid_router.backends.anthropic.answer import Answer
from hybrid_router.backends.anthropic.encode import request
from hybrid_router.backends.anthropic.refusal import refusal
from hybrid_router.config.backend_schema import SecretSource
from hybrid_router.config.cloud_schema import AnthropicBackend, CloudModel
from hybrid_router.core.call import (
    Call,
    Feature,
    FilePart,
    FunctionCall,
    ImagePart,
    Message,
    Operation,
    Sampling,
    TextPart,
    ToolCall,
)
from hybrid_router.core.errors import (
    AccountRefused,
    BackendBusy,
    BackendMisconfigured,
    CallRefused,
    ContextOverflow,
    Inexpressible,
    PrefillRefused,
    RouterError,
)
from hybrid_router.core.event import Event, Finish, Reasoning, Text, ToolFragment, Usage
from hybrid_router.core.secret import Secret
from hybrid_router.emulator.anthropic import serve
from hybrid_router.emulator.settings import Settings

MODEL, OTHER = "claude-test", "claude-new"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
async def backend() -> AsyncIterator[Anthropic]:
    """The adapter in front of the emulator; one of its models goes on from an answer's beginning."""
    models = {MODEL: CloudModel(can=("tools", "schema", "prefill", "logprobs")), OTHER: CloudModel()}
    async with serve(Settings()) as running:
        config = AnthropicBackend(models=models, token=SecretSource(), base_url=running.root)
        made = Anthropic("claude", config, Secret(running.token))
        yield made
        await made.close()


async def answer(backend: Anthropic, call: Call) -> list[Event]:
    """All events of an answer."""
    return await asking.answer(backend, call, MODEL)


def texts(events: list[Event]) -> str:
    """What was said."""
    return "".join(event.text for event in events if isinstance(event, Text))


def sent(call: Call) -> dict[str, Any]:
    """The body of a request."""
    document: dict[str, Any] = json.loads(request(call, MODEL, 4096).body)
    return document


async def test_thoughts_and_text_come_apart(backend: Anthropic) -> None:
    """And what they cost is told."""
    events = await answer(backend, chat("think: count to 3"))

    assert "".join(event.text for event in events if isinstance(event, Reasoning)).startswith("Let me see")
    assert texts(events) == "1 2 3"
    assert events[-2:] == [Finish("stop"), Usage(8, 10)]


async def test_a_tool_is_called_and_its_result_told(backend: Anthropic) -> None:
    """Arguments come as JSON; the call and its result go back as blocks that the API takes."""
    asked = chat("the weather, please", tools=(WEATHER,))
    events = await answer(backend, asked)
    pieces = [event for event in events if isinstance(event, ToolFragment)]

    assert pieces[0].name == "weather"
    assert json.loads("".join(piece.arguments for piece in pieces)) == {"city": "text"}
    assert Finish("tool_calls") in events

    call = ToolCall(id="call:1/é", function=FunctionCall("weather", '{"city": "Rome"}'))
    told = [
        Message(role="assistant", tool_calls=[call]),
        Message(role="tool", content="sunny", tool_call_id=call.id),
    ]
    assert (
        texts(await answer(backend, chat("the weather", *told, tools=(WEATHER,)))) == "The tool said: sunny"
    )


async def test_a_schema_is_kept_to(backend: Anthropic) -> None:
    """In the API's own field for it."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}

    assert json.loads(texts(await answer(backend, chat("hi", response_format=form)))) == {"a": 1}


async def test_an_answer_is_gone_on_with(backend: Anthropic) -> None:
    """White space at the end of what is written may not be sent, and does not come twice."""
    events = await answer(backend, chat("count to 5", written="1 2 "))

    assert texts(events) == "3 4 5"
    assert backend.continues(MODEL, chat("hi"))
    assert not backend.continues(OTHER, chat("hi"))
    assert not backend.continues(MODEL, chat("hi", response_format={"type": "json_object"}))


async def test_several_answers_are_asked_for_in_turn(backend: Anthropic) -> None:
    """Each with its index; stop strings of white space are kept here, since the API takes none."""
    events = await answer(backend, chat("repeat: a\n\nb", n=2, sampling=Sampling(stop=("\n\n",))))

    assert [event for event in events if not isinstance(event, Usage)] == [
        Text("a", 0),
        Finish("stop", 0),
        Text("a", 1),
        Finish("stop", 1),
    ]


def test_only_what_has_a_form_is_claimed() -> None:
    """Whatever router.yaml declares."""
    models = {MODEL: CloudModel(can=("tools", "audio", "logprobs"), does=("chat", "image"))}
    made = Anthropic("claude", AnthropicBackend(models=models, token=SecretSource()), Secret("t"))

    assert made.features(MODEL) == {Feature.TOOLS}
    assert made.operations(MODEL) == {Operation.CHAT}


def test_a_conversation_becomes_turns() -> None:
    """The system's words aside, what one role says in a row in one turn, pictures and PDF as they are."""
    png, pdf = "data:image/png;base64,AAAA", "data:application/pdf;base64,BBBB"
    results = [Message(role="tool", content=text, tool_call_id=text) for text in ("a", "b")]
    calls = [ToolCall(id=each, function=FunctionCall("f", "{oops")) for each in ("a", "b")]
    looked = Message(
        role="user",
        content=[
            TextPart("look"),
            TextPart(""),
            ImagePart({"url": png}),
            FilePart({"file_data": pdf}),
            ImagePart({"url": "https://pictures.test/1.png"}),
        ],
    )
    asked = sent(
        chat(
            Message(role="system", content="Be brief."),
            looked,
            Message(role="assistant", content="", tool_calls=calls),
            *results,
            Message(role="developer", content="Be kind."),
            "go on",
        )
    )

    assert asked["system"] == "Be brief.\n\nBe kind."
    user, assistant, last = asked["messages"]
    assert [block["type"] for block in user["content"]] == ["text", "image", "document", "image"]
    assert user["content"][1]["source"] == {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    assert user["content"][3]["source"] == {"type": "url", "url": "https://pictures.test/1.png"}
    assert [block["input"] for block in assistant["content"]] == [{"INVALID_JSON": "{oops"}] * 2
    assert [block["type"] for block in last["content"]] == ["tool_result", "tool_result", "text"]


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ("auto", None),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "weather"}}, {"type": "tool", "name": "weather"}),
    ],
)
def test_which_tool_is_called_is_told(choice: Any, told: dict[str, str] | None) -> None:
    """In the API's own words, and whether there may be several."""
    call = chat("hi", tools=(WEATHER,), tool_choice=choice)
    assert sent(call).get("tool_choice") == told
    if choice == "auto":
        alone = chat("hi", tools=(WEATHER,), parallel_tool_calls=False)
        assert sent(alone)["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ({"reasoning_effort": "low"}, {"output_config": {"effort": "low"}}),
        ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        ({"reasoning_tokens": 2048}, {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        ({"reasoning_tokens": 0}, {"thinking": {"type": "disabled"}}),
        ({"extra": {"service_tier": "auto"}}, {"service_tier": "auto"}),
        ({"sampling": Sampling(max_tokens=7, top_k=3)}, {"max_tokens": 7, "top_k": 3}),
    ],
)
def test_how_an_answer_is_made_is_told(more: dict[str, Any], fields: dict[str, Any]) -> None:
    """How much is thought, and what else has a word there."""
    asked = sent(chat("hi", **more))
    assert {name: asked.get(name) for name in fields} == fields


@pytest.mark.parametrize(
    "call",
    [
        chat("hi", sampling=Sampling(seed=1)),
        chat("hi", sampling=Sampling(temperature=1.5)),
        chat("hi", sampling=Sampling(presence_penalty=0.1)),
        chat("hi", reasoning_tokens=10),
        chat("hi", reasoning_effort="cosy"),
        chat("hi", response_format={"type": "json_object"}),
        chat("hi", Message(role="assistant", content="so")),
        chat(Message(role="system", content="alone")),
        chat(Message(role="function", content="a result", name="f")),
    ],
)
def test_what_has_no_word_is_not_left_out(call: Call) -> None:
    """Another step may have one."""
    with pytest.raises(Inexpressible):
        request(call, MODEL, 4096)


@pytest.mark.parametrize(
    ("call", "words", "param"),
    [
        (chat("hi", sampling=Sampling(temperature=1.5)), "`temperature` of at most 1", "temperature"),
        (chat(""), "a message that is not empty", "messages"),
        (chat(Message(role="system", content="alone")), "beside the system's", "messages"),
    ],
)
def test_what_is_to_be_changed_is_said(call: Call, words: str, param: str) -> None:
    """The field and its bound; a message of no words is none."""
    with pytest.raises(Inexpressible, match=words) as refused:
        request(call, MODEL, 4096)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("pause_turn", None),
        ("a later word", None),
    ],
)
def test_a_reason_is_never_invented(told: str, reason: str | None) -> None:
    """A word that nobody knows, or a turn that is not over, breaks the answer."""
    read = Answer(0)
    batch = read.read(json.dumps({"type": "message_delta", "delta": {"stop_reason": told}}).encode())

    assert [event.reason for event in batch if isinstance(event, Finish)] == ([reason] if reason else [])
    assert read.done
    assert (read.broken is None) == (reason is not None)


def test_what_a_cache_gave_is_part_of_the_prompt() -> None:
    """Counts are totals; the prompt is what was new, what a cache gave and what was put into one."""
    read = Answer(0)
    counts = {"input_tokens": 3, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 7}
    read.read(json.dumps({"type": "message_start", "message": {"usage": counts}}).encode())
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}
    read.read(json.dumps(end).encode())

    assert read.usage == Usage(15, 2, 5)


@pytest.mark.parametrize(
    ("status", "kind", "words", "named"),
    [
        (400, "invalid_request_error", "prompt is too long: 9 > 8", ContextOverflow),
        (400, "invalid_request_error", "Your credit balance is too low", AccountRefused),
        (
            400,
            "invalid_request_error",
            "This model does not support assistant message prefill",
            PrefillRefused,
        ),
        (400, "invalid_request_error", "max_tokens: too many", CallRefused),
        (402, "billing_error", "no", AccountRefused),
        (403, "permission_error", "no", BackendMisconfigured),
        (413, "request_too_large", "no", CallRefused),
        (529, "overloaded_error", "Overloaded", BackendBusy),
        (200, "rate_limit_error", "in a stream", BackendBusy),
    ],
)
def test_an_error_is_named_by_its_type(status: int, kind: str, words: str, named: type[RouterError]) -> None:
    """The status says nothing of an error that comes in a stream."""
    body = json.dumps({"type": "error", "error": {"type": kind, "message": words}}).encode()
    assert type(refusal(status, {}, body, now=datetime.now(UTC))) is named
