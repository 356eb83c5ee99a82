"""What we send, held against OpenAI's published schemas."""

from __future__ import annotations

import itertools
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_contract import check, events

from hybrid_router.api.openai import chat_request, error, models, reply
from hybrid_router.api.openai.chunks import ChatChunks, CompletionChunks
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import BackendBusy, CallRefused, QuotaExhausted, RouterError, StreamBroken
from hybrid_router.core.event import Batch, Event, Finish, FinishReason, Reasoning, Text, ToolFragment, Usage

CREATED_S = 1_700_000_000
USAGE = Usage(7, 3, cached_tokens=2)


def chat_call(n: int = 1) -> Call:
    """A chat call of `n` choices."""
    return Call(id="chatcmpl-1", operation=Operation.CHAT, alias="fast", n=n)


def completion_call(*prompts: str, n: int = 1) -> Call:
    """A completion of these prompts."""
    return Call(id="cmpl-1", operation=Operation.COMPLETE, alias="fast", prompts=prompts, n=n)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@st.composite
def answers(draw: st.DrawFn, choices_count: int, kinds: tuple[str, ...]) -> list[Batch]:
    """A whole answer: some events of each choice in any order, finishes, usage, cut into batches."""
    said: list[Event] = []
    for _ in range(draw(st.integers(0, 12))):
        index = draw(st.integers(0, choices_count - 1))
        kind = draw(st.sampled_from(kinds))
        if kind == "text":
            said.append(Text(draw(texts), index))
        elif kind == "reasoning":
            said.append(Reasoning(draw(texts), index))
        else:
            position = draw(st.integers(0, 2))
            said.append(ToolFragment(position, draw(texts), f"call_{position}", "look", index))
    reasons: st.SearchStrategy[FinishReason] = st.sampled_from(["stop", "length", "content_filter"])
    said += [Finish(draw(reasons), index) for index in range(choices_count)]
    if draw(st.booleans()):
        said.append(USAGE)
    cuts = sorted(draw(st.sets(st.integers(1, len(said)), max_size=4)) | {0, len(said)})
    return [said[a:b] for a, b in itertools.pairwise(cuts)]


@given(answers(2, ("text", "reasoning", "tools")))
def test_every_chat_reply_keeps_the_contract(batches: list[Batch]) -> None:
    """For any answer: the plain reply validates, and carries usage if and only if it was counted."""
    said = [event for batch in batches for event in batch]
    document = json.loads(reply.chat(chat_call(2), CREATED_S, said))

    check("CreateChatCompletionResponse", document)
    assert ("usage" in document) == (USAGE in said)


@given(answers(2, ("text", "reasoning", "tools")), st.booleans())
def test_every_chat_chunk_keeps_the_contract(batches: list[Batch], include_usage: bool) -> None:
    """For any answer: every event validates; usage comes last, alone, and only if wanted and counted."""
    chunks = ChatChunks(chat_call(2), CREATED_S, include_usage=include_usage)
    *sent, done = events(b"".join(map(chunks.encode, batches)) + chunks.end())

    assert done == "[DONE]"
    for chunk in sent:
        check("CreateChatCompletionStreamResponse", chunk)
    counted = include_usage and USAGE in batches[-1]
    assert [chunk["choices"] == [] for chunk in sent] == [False] * (len(sent) - counted) + [True] * counted
    assert all(("usage" in chunk) == include_usage for chunk in sent)


@given(answers(2, ("text", "reasoning", "tools")))
def test_a_stream_adds_up_to_the_plain_reply(batches: list[Batch]) -> None:
    """Joining a stream's deltas by index gives the message of the plain reply, not a byte more or less."""
    chunks = ChatChunks(chat_call(2), CREATED_S, include_usage=False)
    sent = events(b"".join(map(chunks.encode, batches)))
    said = [event for batch in batches for event in batch]
    plain = json.loads(reply.chat(chat_call(2), CREATED_S, said))

    for choice in plain["choices"]:
        own = [c["choices"][0] for c in sent if c["choices"][0]["index"] == choice["index"]]
        deltas = [c["delta"] for c in own]
        assert deltas[0] == {"role": "assistant", "content": ""}
        assert "".join(d.get("content") or "" for d in deltas) == (choice["message"]["content"] or "")
        assert "".join(d.get("reasoning_content", "") for d in deltas) == choice["message"].get(
            "reasoning_content", ""
        )
        assert [c["finish_reason"] for c in own] == [None] * (len(own) - 1) + [choice["finish_reason"]]
        fragments = [f for d in deltas for f in d.get("tool_calls", [])]
        calls = choice["message"].get("tool_calls", [])
        assert (
            sum("id" in f for f in fragments) == sum("name" in f["function"] for f in fragments) == len(calls)
        )
        joined: dict[int, str] = {}
        for f in fragments:
            joined[f["index"]] = joined.get(f["index"], "") + f["function"]["arguments"]
        assert [joined[position] for position in sorted(joined)] == [
            c["function"]["arguments"] for c in calls
        ]


@given(answers(4, ("text",)), st.booleans(), st.booleans())
def test_every_completion_keeps_the_contract(batches: list[Batch], echo: bool, include_usage: bool) -> None:
    """For two prompts, two choices each: reply and chunks validate, and say the same."""
    call = completion_call("Once", "Twice", n=2)
    said = [event for batch in batches for event in batch]
    plain = json.loads(reply.completion(call, CREATED_S, said, echo=echo))
    check("CreateCompletionResponse", plain)

    chunks = CompletionChunks(call, CREATED_S, include_usage=include_usage, echo=echo)
    *sent, _ = events(b"".join(map(chunks.encode, batches)) + chunks.end())
    for chunk in sent:
        check("StreamedCompletion", chunk)
    for choice in plain["choices"]:
        own = [c for chunk in sent for c in chunk["choices"] if c["index"] == choice["index"]]
        assert "".join(c["text"] for c in own) == choice["text"]
        assert own[-1]["finish_reason"] == choice["finish_reason"]
        assert choice["text"].startswith(("Once", "Once", "Twice", "Twice")[choice["index"]] if echo else "")


def test_tool_calls_alone_leave_content_null() -> None:
    """A reply that only calls tools has null content, and calls in the order of their positions."""
    said: list[Event] = [
        ToolFragment(1, "{}", None, "b"),
        ToolFragment(0, "{", "call_a", "a"),
        ToolFragment(0, "}"),
    ]
    document = json.loads(reply.chat(chat_call(), CREATED_S, [*said, Finish("tool_calls")]))

    check("CreateChatCompletionResponse", document)
    message = document["choices"][0]["message"]
    assert message["content"] is None
    assert [c["function"] for c in message["tool_calls"]] == [
        {"name": "a", "arguments": "{}"},
        {"name": "b", "arguments": "{}"},
    ]
    assert message["tool_calls"][0]["id"] == "call_a"
    assert message["tool_calls"][1]["id"].startswith("call_")


def test_an_answer_without_a_finish_reason_is_no_reply() -> None:
    """A finish reason is never invented: an answer that has none is broken."""
    with pytest.raises(StreamBroken):
        reply.chat(chat_call(), CREATED_S, [Text("half")])


@pytest.mark.parametrize(
    "failure", [CallRefused("no", param="n"), BackendBusy("later"), QuotaExhausted("tomorrow")]
)
def test_an_error_keeps_the_contract(failure: RouterError) -> None:
    """An error object has all four keys, plain and in-band."""
    check("ErrorResponse", json.loads(error.document(failure)))
    (event,) = events(error.in_band(failure))
    check("ErrorResponse", event)


@pytest.mark.parametrize(
    ("wait_s", "expected"),
    [(0.0, ("1", "1")), (0.25, ("1", "250")), (1.2, ("2", "1200")), (-3.0, ("1", "1")), (float("inf"), None)],
)
def test_retry_after_is_a_positive_integer(wait_s: float, expected: tuple[str, str] | None) -> None:
    """`retry-after` is whole seconds, at least one, whatever a backend said."""
    headers = error.headers(BackendBusy("later", retry_after_s=wait_s))
    assert (headers["retry-after"], headers["retry-after-ms"]) == expected if expected else headers == {}


def test_a_spent_allowance_is_not_retried() -> None:
    """Clients that retry 429 by themselves are told not to when it is pointless."""
    assert error.headers(QuotaExhausted("tomorrow"))["x-should-retry"] == "false"
    assert "x-should-retry" not in error.headers(BackendBusy("later"))


def test_models_keep_the_contract() -> None:
    """The list of models and one of them validate."""
    check("ListModelsResponse", json.loads(models.listing(("fast", "org/model"), CREATED_S)))
    check("Model", json.loads(models.one("org/model", ("fast", "org/model"), CREATED_S)))


def test_a_request_by_the_book_is_understood() -> None:
    """A chat request that uses most of the schema's fields validates there and is accepted here."""
    body = {
        "model": "fast",
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "w", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        ],
        "temperature": 0.2,
        "top_p": 0.9,
        "n": 2,
        "stop": ["a", "b"],
        "max_completion_tokens": 32,
        "logit_bias": {"50256": -100},
        "seed": 7,
        "tools": [{"type": "function", "function": {"name": "w", "parameters": {"type": "object"}}}],
        "tool_choice": {"type": "function", "function": {"name": "w"}},
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "r", "schema": {"type": "object"}},
        },
        "stream": True,
        "stream_options": {"include_usage": True},
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
    }
    check("CreateChatCompletionRequest", body)
    asked = chat_request.decode(
        msgspec.json.encode(body), call_id="chatcmpl-1", principal="local", headers={}
    )

    assert asked.include_usage
    assert asked.call.sampling.logit_bias == {50256: -100.0}
    assert asked.call.parallel_tool_calls is False
    assert asked.call.extra == {"metadata": {"a": "b"}}
