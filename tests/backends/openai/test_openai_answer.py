"""What is read: chunks of every server that says it speaks OpenAI's form."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.backends.errand import Unreadable
from hybrid_router.backends.openai.answer import Answer
from hybrid_router.core.event import (
    Event,
    Finish,
    Reasoning,
    Text,
    TokenScore,
    ToolFragment,
    Usage,
)

DONE = b"data: [DONE]\n\n"


def frame(**fields: Any) -> bytes:
    """One event."""
    return b"data: " + json.dumps(fields, ensure_ascii=False).encode() + b"\n\n"


def piece(finish: str | None = None, index: int | None = 0, **delta: Any) -> bytes:
    """A chunk of one choice."""
    return frame(choices=[{"index": index, "delta": delta, "finish_reason": finish}])


def events(answer: Answer, *chunks: bytes, kind: str = "text/event-stream") -> list[Event]:
    """What an answer says to these reads."""
    told = list(answer.head(kind, {}))
    for chunk in chunks:
        if answer.done:
            return told
        told += answer.feed(chunk)
    return told if answer.done else told + answer.end()


def test_choices_that_come_mixed_are_told_apart() -> None:
    """By their numbers; each ends once."""
    told = events(
        Answer(count=2),
        piece(index=1, content="b"),
        piece(index=0, content="a"),
        piece("stop", index=0),
        piece("length", index=1),
        DONE,
    )

    assert told == [Text("b", 1), Text("a", 0), Finish("stop", 0), Finish("length", 1)]


def test_a_choice_that_nobody_asked_for_is_no_answer() -> None:
    """Nor is one that is missing."""
    with pytest.raises(Unreadable, match="not asked for"):
        events(Answer(), piece(index=1, content="b"))
    with pytest.raises(Unreadable, match="without a finish reason"):
        events(Answer(count=2), piece("stop"), DONE)


def test_reasoning_has_two_names() -> None:
    """llama-server's and OpenRouter's."""
    told = events(Answer(), piece(reasoning_content="hm"), piece(reasoning="so"), piece("stop", content="a"))

    assert told == [Reasoning("hm"), Reasoning("so"), Text("a"), Finish("stop")]


def test_a_tool_call_finishes_as_one_whatever_is_said() -> None:
    """Ollama says `stop`; pieces are put to their call, and a missing id is made."""
    told = events(
        Answer(),
        piece(tool_calls=[{"index": 0, "function": {"name": "now", "arguments": '{"a"'}}]),
        piece(tool_calls=[{"index": 0, "function": {"arguments": ": 1}"}}]),
        piece("stop"),
        DONE,
    )
    first, second, last = told

    assert isinstance(first, ToolFragment)
    assert (first.name, first.arguments) == ("now", '{"a"')
    assert first.id
    assert second == ToolFragment(0, ": 1}")
    assert last == Finish("tool_calls")


def test_a_tool_that_is_not_named_breaks_the_answer() -> None:
    """There would be nothing to call."""
    with pytest.raises(Unreadable, match="naming"):
        events(Answer(), piece(tool_calls=[{"index": 0, "function": {"arguments": "{}"}}]), piece("stop"))


def test_scores_of_chats_come_with_their_bytes() -> None:
    """Half a character stays half; the likeliest others come with it."""
    content = [
        {
            "token": "\\xe4",
            "logprob": -0.5,
            "bytes": [0xE4],
            "top_logprobs": [{"token": "a", "logprob": -1.5, "bytes": None}],
        }
    ]
    chunk = frame(choices=[{"index": 0, "delta": {"content": ""}, "logprobs": {"content": content}}])
    told = events(Answer(), chunk, piece("stop"))

    assert told[0] == Text("", 0, (TokenScore(b"\xe4", -0.5, (TokenScore(b"a", -1.5),)),))


def test_scores_of_completions_come_in_columns() -> None:
    """The likeliest first."""
    columns = {
        "tokens": ["a"],
        "token_logprobs": [-0.25],
        "top_logprobs": [{"b": -2.0, "a": -0.25}],
        "text_offset": [0],
    }
    chunk = frame(choices=[{"index": 0, "text": "a", "logprobs": columns, "finish_reason": "length"}])

    assert events(Answer(), chunk, DONE)[0] == Text(
        "a", 0, (TokenScore(b"a", -0.25, (TokenScore(b"a", -0.25), TokenScore(b"b", -2.0))),)
    )


@pytest.mark.parametrize(
    "logprobs",
    [
        {"content": [{"token": "a"}]},
        {"content": [{"token": "a", "logprob": 0, "bytes": [999]}]},
        {"tokens": ["a"], "token_logprobs": []},
        [1],
    ],
)
def test_scores_that_are_none_break_the_answer(logprobs: Any) -> None:
    """Instead of being guessed."""
    with pytest.raises(Unreadable, match="format"):
        events(Answer(), frame(choices=[{"index": 0, "delta": {"content": "a"}, "logprobs": logprobs}]))


def test_a_stop_string_that_the_server_does_not_know_is_kept_here() -> None:
    """Across the borders of chunks, and from what was written before; what it cost is then not known."""
    answer = Answer(stops=("END",), written="the E")
    told = events(answer, piece(content="N"), piece(content="D and more"), piece("length"))

    assert told == [Finish("stop")]
    assert answer.usage is None


def test_a_beginning_that_is_repeated_is_taken_off() -> None:
    """Some servers answer a prefill with all of it."""
    told = events(Answer(begun="one two"), piece(content="one t"), piece(content="wo three"), piece("stop"))

    assert told == [Text(" three"), Finish("stop")]


def test_usage_is_read_wherever_it_stands() -> None:
    """In a chunk of its own behind the finish, or in every chunk so far."""
    counts = {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}}
    behind, within = Answer(), Answer()
    events(behind, piece(content="a"), piece("stop"), frame(choices=[], usage=counts), DONE)
    events(
        within,
        frame(choices=[{"index": 0, "delta": {"content": "a"}}], usage={**counts, "completion_tokens": 1}),
        frame(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], usage=counts),
    )

    assert behind.usage == within.usage == Usage(5, 2, 3)


def test_an_end_that_nobody_knows_says_nothing() -> None:
    """So the answer is not taken for whole."""
    with pytest.raises(Unreadable, match="tired"):
        events(Answer(), piece("tired"))


def test_what_came_before_a_break_in_the_same_read_is_given() -> None:
    """And the break is told right after it, without waiting for more."""
    answer = Answer()
    told = (
        answer.feed(piece(content="a") + b"data: {\n\n") if not answer.head("text/event-stream", {}) else []
    )

    assert told == [Text("a")]
    with pytest.raises(Unreadable, match="format"):
        _ = answer.done


WHOLE = [
    piece(role="assistant", content=""),
    piece(content="Grüße, "),
    piece(content="世界"),
    piece("stop"),
    frame(choices=[], usage={"prompt_tokens": 1, "completion_tokens": 2}),
    DONE,
]


@given(st.lists(st.integers(1, len(b"".join(WHOLE)) - 1), max_size=8))
def test_however_a_stream_is_sliced_it_is_the_same_answer(cuts: list[int]) -> None:
    """Even inside a character."""
    stream = b"".join(WHOLE)
    places = sorted({0, len(stream), *cuts})
    answer = Answer()
    told = events(answer, *(stream[a:b] for a, b in itertools.pairwise(places)))

    assert "".join(event.text for event in told if isinstance(event, Text)) == "Grüße, 世界"
    assert told[-1] == Finish("stop")
    assert answer.usage == Usage(1, 2)
