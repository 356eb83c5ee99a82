"""Every quirk of Workers AI's streams, from a recorded stream each, however the network cuts it."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.backends.workers_ai.answer import Answer
from hybrid_router.core.event import Event, Finish, Reasoning, Text, ToolFragment, Usage
from hybrid_router.core.sse import Decoder

DATA = Path(__file__).parent / "data"
CUTS = st.lists(st.integers(0, 4000), max_size=30)
OSLO = [ToolFragment(0, '{"city":"Oslo"}', id="call_a1", name="get_weather"), Finish("tool_calls")]


def read(name: str, cuts: list[int], **more: Any) -> tuple[Answer, list[Event]]:
    """One choice and its events, after the stream of that name was read in pieces."""
    stream = (DATA / f"{name}.sse").read_bytes()
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    one, decoder = Answer(0, max_tokens=100, **more), Decoder(limit_bytes=10_000)
    seen = [event for begin, end in pairwise(places) for event in one.read(decoder.feed(stream[begin:end]))]
    seen += one.read(decoder.end())
    one.end()
    return one, joined(seen)


def told(name: str, cuts: list[int], **more: Any) -> list[Event]:
    """All events of a whole answer, pieces of text and arguments joined."""
    one, seen = read(name, cuts, **more)
    assert one.broken is None
    return [*seen, *([one.usage] if one.usage else [])]


def joined(events: list[Event]) -> list[Event]:
    """Neighbours of one kind as one: where the network cuts is nobody's business."""
    out: list[Event] = []
    for event in events:
        match out[-1] if out else None, event:
            case Text(before), Text(text):
                out[-1] = Text(before + text)
            case Reasoning(before), Reasoning(text):
                out[-1] = Reasoning(before + text)
            case ToolFragment(0, before) as first, ToolFragment(0, more):
                out[-1] = ToolFragment(0, before + more, id=first.id, name=first.name)
            case _:
                out.append(event)
    return out


@given(CUTS)
def test_numbers_are_text(cuts: list[int]) -> None:
    """A token that is a number comes as one."""
    assert told("numeric_content", cuts) == [
        Text("Six times seven is 42."),
        Finish("stop"),
        Usage(14, 7),
    ]


@given(CUTS)
def test_an_answer_ends_once(cuts: list[int]) -> None:
    """Of several finish frames the first one counts."""
    assert told("several_finishes", cuts) == [Text("Hello there"), Finish("stop")]


@given(CUTS)
def test_a_doubled_end_is_one(cuts: list[int]) -> None:
    """`[DONE]` and `[DONE]` again."""
    assert told("doubled_done", cuts) == [Text("Hello"), Finish("stop"), Usage(9, 2)]


@given(CUTS)
def test_lines_after_the_finish_are_usage(cuts: list[int]) -> None:
    """A chunk without choices that counts nothing, and a line of Workers AI's own that counts all."""
    assert told("trailing_usage", cuts) == [
        Text("Hi"),
        Finish("stop"),
        Usage(9, 1, cached_tokens=8, neurons=0.0859),
    ]


@given(CUTS)
def test_padding_is_passed_over(cuts: list[int]) -> None:
    """`p` is noise; characters that a slice cuts in two are whole."""
    assert told("padding", cuts) == [Text("Grüße 🌍"), Finish("stop")]


@given(CUTS)
def test_an_error_in_a_200_is_an_error(cuts: list[int]) -> None:
    """Before any text and after some: its own words are kept for the table of refusals."""
    for name, code, words in (
        ("error_in_200", b"3040", ""),
        ("error_after_text", b"8005", "The first words"),
    ):
        one, seen = read(name, cuts)
        assert seen == ([Text(words)] if words else [])
        assert one.broken is not None
        assert code in one.broken.reported
        assert not one.finished


@given(CUTS)
def test_stop_after_a_call_means_the_call(cuts: list[int]) -> None:
    """A model that called a tool and says `stop` has finished by calling it."""
    assert told("stop_on_tool_calls", cuts) == [
        ToolFragment(0, '{"city": "Oslo"}', id="call_a1", name="get_weather"),
        Finish("tool_calls"),
    ]


@given(CUTS)
def test_arguments_wait_for_the_name(cuts: list[int]) -> None:
    """What came before the name is given with it."""
    assert told("arguments_before_name", cuts) == OSLO


@given(CUTS)
def test_a_closing_delta_of_nulls_says_nothing(cuts: list[int]) -> None:
    """Neither a call of its own nor a change of the one before."""
    assert told("null_closing_delta", cuts) == OSLO


@given(CUTS)
def test_a_call_that_comes_whole_is_one(cuts: list[int]) -> None:
    """Classic models send it on one chunk, arguments as an object, among empty lists of calls."""
    fragment, finish, usage = told("whole_call_on_a_chunk", cuts)

    assert isinstance(fragment, ToolFragment)
    assert (fragment.name, fragment.arguments) == ("get_weather", '{"city":"Oslo"}')
    assert fragment.id
    assert (finish, usage) == (Finish("tool_calls"), Usage(90, 11))


@given(CUTS)
def test_reasoning_goes_by_two_names(cuts: list[int]) -> None:
    """`reasoning_content` and `reasoning` are the same."""
    assert told("two_names_of_reasoning", cuts) == [
        Reasoning("Let me see. It is short."),
        Text("Yes."),
        Finish("stop"),
    ]


@given(CUTS)
def test_an_end_without_a_finish_is_a_break(cuts: list[int]) -> None:
    """A stream that was cut is not taken for a short answer."""
    one, _ = read("cut", cuts)

    assert one.broken is not None
    assert "without a finish reason" in one.broken.why


@given(CUTS)
def test_comments_and_other_line_ends_are_read(cuts: list[int]) -> None:
    """A proxy's comments, CRLF, and a colon without a space behind it."""
    assert told("crlf_and_comments", cuts) == [Text("Hello"), Finish("stop")]


def test_plain_json_in_place_of_a_stream_is_an_answer() -> None:
    """Envelope and all."""
    one = Answer(0, max_tokens=100)

    assert one.read_whole((DATA / "plain_json.json").read_bytes()) == [Text("Hello there"), Finish("stop")]
    assert one.usage == Usage(9, 3)


def test_each_recording_has_its_test() -> None:
    """None lies about unread."""
    names = {path.stem for path in DATA.iterdir()} - {"README"}
    source = Path(__file__).read_text(encoding="utf-8")

    assert [name for name in names if f'"{name}' not in source] == []


@given(CUTS)
def test_a_forced_call_in_the_text_is_a_call(cuts: list[int]) -> None:
    """gpt-oss writes it there; where nobody forced a call, or of another tool, it is text."""
    fragment, finish, usage = told("leaked_call", cuts, forced=("get_weather", "get_time"))
    text = '{"name": "get_weather", "arguments": {"city": "Oslo"}}'

    assert isinstance(fragment, ToolFragment)
    assert (fragment.name, fragment.arguments) == ("get_weather", '{"city":"Oslo"}')
    assert (finish, usage) == (Finish("tool_calls"), Usage(80, 14))
    for forced in ((), ("get_time", "get_date")):
        assert told("leaked_call", cuts, forced=forced)[:2] == [Text(text), Finish("stop")]


@pytest.mark.parametrize(
    ("text", "tools", "arguments"),
    [
        (' \n{"city": "Oslo"}', ("get_weather",), '{"city":"Oslo"}'),
        ('{"city": "Oslo"}', ("get_weather", "get_time"), None),
        (
            '{"function": {"name": "functions.get_weather", "parameters": {"a": 1}}}',
            ("get_weather",),
            '{"a":1}',
        ),
        ('{"name": "get_weather", "arguments": "{}"}', ("get_weather",), "{}"),
        ('{"name": "get_weather", "arguments": 3}', ("get_weather",), None),
        ('{"city": "Oslo', ("get_weather",), None),
        ("It is cold in Oslo.", ("get_weather",), None),
        ("[1]", ("get_weather",), None),
    ],
)
def test_only_what_is_a_call_is_taken_for_one(
    text: str, tools: tuple[str, ...], arguments: str | None
) -> None:
    """By name, or by its arguments alone where one tool was meant; all else is the answer's text, whole."""
    one = Answer(0, max_tokens=100, forced=tools)
    document = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}

    (event, finish) = one.read_whole(json.dumps(document).encode())

    if arguments is None:
        assert (event, finish) == (Text(text), Finish("stop"))
    else:
        assert isinstance(event, ToolFragment)
        assert (event.name, event.arguments, finish) == ("get_weather", arguments, Finish("tool_calls"))


def test_text_that_is_no_call_streams_as_it_comes() -> None:
    """Only what begins like a call waits, and a real call after it keeps its text."""
    one = Answer(0, max_tokens=100, forced=("get_weather",))

    assert one.read([chunk({"content": " It"})]) == [Text(" It")]
    assert one.read([chunk({"content": '{"a": 1}'})]) == [Text('{"a": 1}')]
    two = Answer(0, max_tokens=100, forced=("get_weather",))
    assert two.read([chunk({"content": '{"thought": "cold"}'})]) == []
    call = {"index": 0, "id": "call_a1", "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'}}
    assert two.read([chunk({"tool_calls": [call]}), chunk({}, "stop")]) == [
        Text('{"thought": "cold"}'),
        *OSLO,
    ]


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    """One chunk of the chat-completion family."""
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}).encode()
