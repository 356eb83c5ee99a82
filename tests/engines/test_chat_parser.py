"""What models say, in each format: reasoning, text and calls, however the text is cut."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_router.core.call import Operation
from hybrid_router.core.event import Event, Reasoning, Text, ToolFragment
from hybrid_router.engines.llama.chat import formats
from hybrid_router.engines.llama.chat.formats import Format, Thought
from hybrid_router.engines.llama.chat.harmony import FINAL, HarmonyParser
from hybrid_router.engines.llama.chat.parser import ChatParser, Manner
from hybrid_router.engines.llama.chat.tools import tools_of
from hybrid_router.engines.task import Task

WEATHER = {
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "exact": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["city"],
    },
}
CLOCK = {"name": "now", "parameters": {"type": "object", "properties": {}}}
TOOLS = tools_of(
    Task(
        id=1,
        operation=Operation.CHAT,
        tools=({"type": "function", "function": WEATHER}, {"type": "function", "function": CLOCK}),
    )
)
THINK = Thought("<think>", "</think>")


@dataclass
class Said:
    """What a client makes of an answer's events, in three ways that must agree."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)


def joined(events: Iterable[Event]) -> Said:
    """Join by position, by id and by name, and hold them against each other."""
    said = Said()
    by_position: dict[int, tuple[str, list[str]]] = {}
    by_id: dict[str, list[str]] = {}
    by_name: list[tuple[str, list[str]]] = []
    last_id = ""
    for event in events:
        match event:
            case Text():
                assert event.text
                said.text += event.text
            case Reasoning():
                assert event.text
                said.reasoning += event.text
            case ToolFragment():
                if event.name is not None:
                    assert event.id is not None
                    assert event.id.startswith("call_")
                    last_id = event.id
                    by_name.append((event.name, []))
                    assert event.position == len(by_position)
                    assert last_id not in by_id
                    by_id[last_id] = []
                    by_position[event.position] = (event.name, [])
                else:
                    assert event.id is None
                    assert event.arguments
                by_position[event.position][1].append(event.arguments)
                by_id[last_id].append(event.arguments)
                by_name[-1][1].append(event.arguments)
    said.calls = [(name, "".join(pieces)) for name, pieces in by_position.values()]
    assert said.calls == [(name, "".join(pieces)) for name, pieces in by_name]
    assert [arguments for _, arguments in said.calls] == ["".join(pieces) for pieces in by_id.values()]
    return said


def parser(
    form: Format,
    *,
    thought: Thought | None = THINK,
    thinks: bool = False,
    primed: str = "",
    opening: str = "",
    tools: bool = True,
    many: bool = True,
    choice: str = "auto",
) -> ChatParser:
    """A parser of one choice."""
    offered = tools_of(
        Task(
            id=1,
            operation=Operation.CHAT,
            tools=tuple(TOOLS.documents) if tools else (),
            tool_choice=choice,
            parallel_tool_calls=many,
        )
    )
    kind = HarmonyParser if form is formats.HARMONY else ChatParser
    return kind(0, Manner(form, offered, thought, thinks, primed, bool(opening)), opening)


def thinking(reader: ChatParser) -> bool:
    """Whether the answer is inside its reasoning now."""
    return reader.thinking


def read(reader: ChatParser, pieces: Iterable[str]) -> Said:
    """Everything an answer in pieces shows."""
    events = [event for piece in pieces for event in reader.feed(piece)]
    return joined([*events, *reader.flush("stop")])


def cut(text: str, places: Iterable[int]) -> list[str]:
    """`text` in pieces."""
    borders = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[begin:end] for begin, end in pairwise(borders)]


ROME = '{"city": "Rome", "days": 2}'
OSLO = '{"city": "Oslo"}'
ONE = [("get_weather", ROME)]
TWO = [("get_weather", ROME), ("get_weather", OSLO)]

SAMPLES: dict[str, tuple[Format, str, Said]] = {
    "hermes": (
        formats.HERMES,
        f"<think>\nI look.\n</think>\n\nOne moment.\n<tool_call>\n"
        f'{{"name": "get_weather", "arguments": {ROME}}}\n'
        f'</tool_call>\n<tool_call>\n{{"name": "get_weather", "arguments": {OSLO}}}\n</tool_call>\n',
        Said("One moment.", "I look.", TWO),
    ),
    "hermes, arguments first": (
        formats.HERMES,
        f'<tool_call>{{"arguments": {ROME}, "name": "get_weather"}}</tool_call>',
        Said(calls=ONE),
    ),
    "hermes, arguments as a string": (
        formats.HERMES,
        f'<tool_call>{{"name": "get_weather", "arguments": {json.dumps(ROME)}}}</tool_call>',
        Said(calls=ONE),
    ),
    "hermes, no arguments": (
        formats.HERMES,
        '<tool_call>{"name": "now"}</tool_call> It is late.',
        Said("It is late.", calls=[("now", "{}")]),
    ),
    "hermes, never closed": (
        formats.HERMES,
        f'<tool_call>\n{{"name": "get_weather", "arguments": {ROME}}}',
        Said(calls=ONE),
    ),
    "hermes, a line end inside a string": (
        formats.HERMES,
        '<tool_call>{"name": "get_weather", "arguments": {"city": "Ro\nme"}}</tool_call>',
        Said(calls=[("get_weather", '{"city": "Ro\\nme"}')]),
    ),
    "llama": (
        formats.LLAMA,
        f'{{"name": "get_weather", "parameters": {ROME}}}',
        Said(calls=ONE),
    ),
    "llama, two": (
        formats.LLAMA,
        f'\n{{"name": "get_weather", "parameters": {ROME}}}; {{"name": "get_weather", "parameters": {OSLO}}}',
        Said(calls=TWO),
    ),
    "llama, tagged": (
        formats.LLAMA,
        f'<|python_tag|>{{"type": "function", "name": "get_weather", "parameters": {ROME}}}',
        Said(calls=ONE),
    ),
    "mistral": (
        formats.MISTRAL,
        f'[TOOL_CALLS][{{"name": "get_weather", "arguments": {ROME}}}, '
        f'{{"name": "get_weather", "arguments": {OSLO}, "id": "abcdefghi"}}]',
        Said(calls=TWO),
    ),
    "mistral, named": (
        formats.MISTRAL_NAMED,
        f"Well.[TOOL_CALLS]get_weather[ARGS]{ROME}[TOOL_CALLS]get_weather[CALL_ID]abcdefghi[ARGS]{OSLO}",
        Said("Well.", calls=TWO),
    ),
    "functionary 3.1": (
        formats.FUNCTIONARY_TAGS,
        f"<function=get_weather>{ROME}</function><function=get_weather>{OSLO}</function>",
        Said(calls=TWO),
    ),
    "deepseek r1": (
        formats.DEEPSEEK_R1,
        "<think>Hm.</think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
        f"{ROME}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{OSLO}\n"
        "```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        Said("", "Hm.", TWO),
    ),
    "deepseek v3.1": (
        formats.DEEPSEEK,
        f"Sure<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{ROME}<｜tool▁call▁end｜>"
        f"<｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{OSLO}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        Said("Sure", calls=TWO),
    ),
    "kimi": (
        formats.KIMI,
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
        f"{ROME}<|tool_call_end|><|tool_call_begin|>functions.get_weather:1<|tool_call_argument_begin|>{OSLO}"
        "<|tool_call_end|><|tool_calls_section_end|>",
        Said(calls=TWO),
    ),
    "qwen coder": (
        formats.QWEN_CODER,
        'I will.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nRo\n"me"\n</parameter'
        ">\n<parameter=days>\n2\n"
        '</parameter>\n<parameter=exact>\nTrue\n</parameter>\n<parameter=tags>\n["a", "b"]\n</parameter>\n'
        "</function>\n</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>",
        Said(
            "I will.",
            calls=[
                (
                    "get_weather",
                    '{"city": "Ro\\n\\"me\\"", "days": 2, "exact": true, "tags": ["a", "b"]}',
                ),
                ("now", "{}"),
            ],
        ),
    ),
    "glm": (
        formats.GLM,
        "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n<arg_ke"
        "y>days</arg_key>\n"
        "<arg_value>2</arg_value>\n</tool_call>\n<tool_call>now\n</tool_call>",
        Said(calls=[*ONE, ("now", "{}")]),
    ),
    "minimax": (
        formats.MINIMAX,
        '<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Rome</parameter>\n'
        '<parameter name="days">2</parameter>\n</invoke>\n<invoke name="now">\n</invoke>\n</mi'
        "nimax:tool_call>",
        Said(calls=[*ONE, ("now", "{}")]),
    ),
    "command": (
        formats.COMMAND,
        '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "get_weather", "parameters": '
        f"{ROME}}}\n]<|END_ACTION|>",
        Said(calls=ONE),
    ),
    "command, text": (
        formats.COMMAND,
        "<|START_RESPONSE|>It rains.<|END_RESPONSE|>",
        Said("It rains."),
    ),
    "granite": (
        formats.GRANITE,
        f'<|tool_call|>[{{"name": "get_weather", "arguments": {ROME}}}]',
        Said(calls=ONE),
    ),
    "nemotron": (
        formats.NEMOTRON,
        f'<TOOLCALL>[{{"name": "get_weather", "arguments": {ROME}}}]</TOOLCALL>',
        Said(calls=ONE),
    ),
    "harmony": (
        formats.HARMONY,
        "<|channel|>analysis<|message|>I look.<|end|><|start|>assistant<|channel|>commentary t"
        "o=functions.get_weather "
        f"<|constrain|>json<|message|>{ROME}<|call|>",
        Said("", "I look.", ONE),
    ),
    "harmony, recipient first": (
        formats.HARMONY,
        f" to=functions.get_weather<|channel|>commentary json<|message|>{ROME}<|call|>",
        Said(calls=ONE),
    ),
    "harmony, text": (
        formats.HARMONY,
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>"
        "Hello there.<|return|>",
        Said("Hello there.", "Hm."),
    ),
}

# Answers that only look like calls.
WORDS: dict[str, tuple[Format, str]] = {
    "unknown tool": (formats.HERMES, '<tool_call>{"name": "sing", "arguments": {}}</tool_call> la'),
    "no JSON": (formats.HERMES, "Say <tool_call> and </tool_call> when you call."),
    "half a marker": (formats.HERMES, "a < b and <tool"),
    "arguments of another kind": (formats.HERMES, '<tool_call>{"name": "now", "arguments": [1]}</tool_call>'),
    "a list of anything": (formats.MISTRAL, "[TOOL_CALLS][1, 2]"),
    "an object": (formats.LLAMA, '{"name": "get_weather", "city": "Rome"}'),
    "unclosed object": (formats.LLAMA, '{"name": "get_weather", '),
    "other tags": (formats.QWEN_CODER, "<tool_call>\n<function=sing>\n</function>\n</tool_call>"),
    "a comparison": (formats.FUNCTIONARY_TAGS, "f<function=g"),
    "unknown recipient": (
        formats.HARMONY,
        "<|start|>assistant to=functions.sing<|channel|>commentary<|message|>{}<|call|>",
    ),
    "plain words": (formats.HARMONY, "Hello there."),
    "deepseek, unknown": (
        formats.DEEPSEEK,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>sing<｜tool▁sep｜>{}<｜tool▁call▁end｜>",
    ),
}


@pytest.mark.parametrize(("form", "text", "expected"), SAMPLES.values(), ids=SAMPLES.keys())
def test_each_format_is_read(form: Format, text: str, expected: Said) -> None:
    """Reasoning, text and calls come apart, nothing of the markers shows, and arguments are JSON."""
    said = read(parser(form), [text])

    assert said == expected
    assert all(isinstance(json.loads(arguments), dict) for _, arguments in said.calls)


@pytest.mark.parametrize(("form", "text", "expected"), SAMPLES.values(), ids=SAMPLES.keys())
def test_one_character_at_a_time_is_the_same(form: Format, text: str, expected: Said) -> None:
    """The smallest pieces give the same answer."""
    assert read(parser(form), list(text)) == expected


@pytest.mark.parametrize(("form", "text"), WORDS.values(), ids=WORDS.keys())
def test_what_only_looks_like_a_call_is_text(form: Format, text: str) -> None:
    """It is given out in the end, to the letter, whatever way it is cut."""
    assert read(parser(form), [text]) == Said(text)
    assert read(parser(form), list(text)) == Said(text)


ALL = [(form, text) for form, text, _ in SAMPLES.values()] + list(WORDS.values())


@settings(max_examples=300, deadline=None)
@given(
    sample=st.sampled_from(ALL),
    end=st.integers(0, 500),
    junk=st.tuples(
        st.integers(0, 500), st.sampled_from(["", "", "\n", "}", '"', "<tool_call>", "</think>", "x", "｜"])
    ),
    places=st.lists(st.integers(0, 600), max_size=12),
)
def test_borders_make_no_difference(
    sample: tuple[Format, str], end: int, junk: tuple[int, str], places: list[int]
) -> None:
    """Any answer, whole, cut short or broken, joins to the same however it was cut; it never fails."""
    form, text = sample
    text = text[: len(text) - end % (len(text) + 1)] if end % 3 == 0 else text
    at = junk[0] % (len(text) + 1)
    text = text[:at] + junk[1] + text[at:]

    assert read(parser(form), cut(text, places)) == read(parser(form), [text])


@settings(max_examples=100, deadline=None)
@given(
    words=st.text(st.sampled_from("<>/{}[]\"':, \n|tolcaunme_"), max_size=60),
    places=st.lists(st.integers(0, 60)),
)
def test_words_without_calls_are_all_said(words: str, places: list[int]) -> None:
    """Without tools nothing is lost, not even white space; borders make no difference."""
    assert read(parser(formats.HERMES, thought=None, tools=False), cut(words, places)) == Said(words)


@pytest.mark.parametrize(("form", "text", "expected"), SAMPLES.values(), ids=SAMPLES.keys())
def test_the_limit_shows_no_half_of_a_call(form: Format, text: str, expected: Said) -> None:
    """Wherever an answer that has to call is cut: the text is no more than it would have been, the calls are
    its first ones, and the last of them may be unfinished."""
    for end in range(len(text)):
        reader = parser(form, choice="required")
        said = joined([*reader.feed(text[:end]), *reader.flush("length")])

        assert expected.text.startswith(said.text.strip()), text[:end]
        whole, last = said.calls[:-1], said.calls[-1:]
        assert whole == expected.calls[: len(whole)]
        assert [name for name, _ in last] == [name for name, _ in expected.calls[len(whole) :][: len(last)]]


def test_the_limit_shows_no_half_of_a_call_that_nobody_required() -> None:
    """Behind the marker nothing is text any more; before it is whole it may be; at another end it was."""
    half = '<tool_call>\n{"name": "get_wea'
    reader = parser(formats.HERMES)
    limited = [*reader.feed("One moment. " + half), *reader.flush("length")]
    reader = parser(formats.HERMES)
    ended = [*reader.feed("One moment. " + half), *reader.flush("stop")]
    assert joined(limited).text.strip() == "One moment."
    assert joined(ended).text == "One moment. " + half
    reader = parser(formats.HARMONY)
    events = reader.feed(
        f"{FINAL}One moment.<|end|><|start|>assistant<|channel|>commentary to=functions.get_w"
    )
    assert joined([*events, *reader.flush("length")]) == Said("One moment.")


def test_arguments_come_as_they_are_written() -> None:
    """Not only when the call is whole: an editor shows them grow."""
    reader = parser(formats.HERMES)

    first = reader.feed('<tool_call>{"name": "get_weather", "arguments": {"city": "Ro')

    assert joined(first).calls == [("get_weather", '{"city": "Ro')]
    assert joined([first[0], *reader.feed("me")]).calls == [("get_weather", "me")]
    assert reader.reason("length") == "length"


def test_an_answer_in_json_is_not_held_back() -> None:
    """Where calls are bare JSON, the first key that no call has settles it."""
    reader = parser(formats.LLAMA)

    assert joined(reader.feed('{"answer": "for')) == Said('{"answer": "for')


def test_tagged_text_comes_as_it_is_written() -> None:
    """A file's content between tags is not held back until it is whole."""
    reader = parser(formats.QWEN_CODER)

    events = reader.feed("<tool_call>\n<function=get_weather>\n<parameter=city>\nline one\nline")

    assert joined(events).calls == [("get_weather", '{"city": "line one\\nline')]


def test_broken_arguments_are_what_the_model_wrote() -> None:
    """They were half out when they broke: the rest follows, up to the end of the call."""
    said = read(
        parser(formats.HERMES), ['<tool_call>{"name": "now", "arguments": {"a": tru', "e]}</tool_call> so"]
    )

    assert said == Said("so", calls=[("now", '{"a": true]}')])


def test_the_finish_tells_of_calls() -> None:
    """`tool_calls` instead of `stop`, once there was a call."""
    reader = parser(formats.HERMES)
    assert reader.reason("stop") == "stop"

    reader.feed('<tool_call>{"name": "now", "arguments": {}}</tool_call>')

    assert reader.reason("stop") == "tool_calls"


def test_one_call_is_enough_where_one_is_allowed() -> None:
    """With `parallel_tool_calls: false` nothing behind the first call shows, and the pars"
    "er says it is over."""
    for form, text, expected in SAMPLES.values():
        reader = parser(form, many=False)
        said = read(reader, list(text))
        assert said.calls == expected.calls[:1]
        assert reader.over == bool(expected.calls)


def test_reasoning_may_have_begun_in_the_prompt() -> None:
    """The template opened it: the answer begins inside, and the parser says so until it ends."""
    reader = parser(formats.HERMES, thinks=True)
    assert thinking(reader)
    assert reader.closing == "</think>"

    events = reader.feed("Let me see.\n</th")
    assert thinking(reader)
    events += reader.feed("ink>\n\nBlue.")

    assert not thinking(reader)
    assert joined([*events, *reader.flush("stop")]) == Said("Blue.", "Let me see.")


def test_a_marker_in_the_middle_of_a_sentence_is_no_reasoning() -> None:
    """Reasoning comes first or not at all."""
    assert read(parser(formats.HERMES), ["The tag <think> opens it."]) == Said("The tag <think> opens it.")


def test_analysis_is_ended_by_a_new_message() -> None:
    """What closes a channel opens the next, so that the model comes to the point."""
    reader = parser(formats.HARMONY)
    events = reader.feed("<|channel|>analysis<|message|>Well, well")
    assert thinking(reader)

    events += reader.feed(reader.closing + "Fine.")

    assert not thinking(reader)
    assert joined([*events, *reader.flush("stop")]) == Said("Fine.", "Well, well")


def test_a_prompt_that_ends_inside_a_marker() -> None:
    """Functionary's prompt ends with the mark of a message: the answer begins with its recipient."""
    form = formats.FUNCTIONARY
    assert read(parser(form, thought=None, primed=">>>"), list("all\nHello.")) == Said("Hello.")
    assert read(parser(form, thought=None, primed=">>>"), list(f"all\nHm.\n>>>get_weather\n{ROME}")) == Said(
        "Hm.", calls=ONE
    )
    assert read(
        parser(form, thought=None, primed=">>>"), [f"get_weather\n{ROME}\n>>>get_weather\n{OSLO}"]
    ) == Said(calls=TWO)


@pytest.mark.parametrize("opening", ["Hello", "Hello ", "Hello <tool", "a\n\n"])
def test_what_is_out_already_is_not_said_again(opening: str) -> None:
    """Not even what a parser would have held back; and a call behind it is still found."""
    call = '<tool_call>{"name": "now", "arguments": {}}</tool_call>'

    assert read(parser(formats.HERMES, opening=opening), [" there"]) == Said(" there")
    assert read(parser(formats.HERMES, opening=opening), [f"x {call}"]).text == "x"
