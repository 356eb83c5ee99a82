"""Grammars for calls: what they let through, checked with the library that will hold models to them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer
from llguidance._tokenizer import TokenizerWrapper

from hybrid_router.core.call import Operation
from hybrid_router.core.event import ToolFragment
from hybrid_router.engines.llama.chat import formats
from hybrid_router.engines.llama.chat.formats import Format
from hybrid_router.engines.llama.chat.forms import Grammar
from hybrid_router.engines.llama.chat.harmony import HarmonyParser
from hybrid_router.engines.llama.chat.parameters import inlined
from hybrid_router.engines.llama.chat.parser import ChatParser, Manner
from hybrid_router.engines.llama.chat.tools import Tools, tools_of
from hybrid_router.engines.task import Task, TaskRefused

SPECIAL = {
    marker: 256 + at
    for at, marker in enumerate(
        dict.fromkeys(
            (
                "<|endoftext|>",
                *formats.HARMONY.markers,
                *formats.DEEPSEEK.markers,
                *formats.MISTRAL_NAMED.markers,
                *formats.KIMI.markers,
                *formats.COMMAND.markers,
                *formats.GRANITE.markers,
                *formats.HERMES.markers,
                "[THINK]",
                "[/THINK]",
            )
        )
    )
}


class Bytes:
    """A vocabulary of the 256 bytes and of the markers as special tokens."""

    eos_token_id = 256
    bos_token_id = None
    tokens = (*(bytes([value]) for value in range(256)), *(marker.encode() for marker in SPECIAL))
    special_token_ids = tuple(SPECIAL.values())

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


TOKENIZER = LLTokenizer(TokenizerWrapper(Bytes()))


def tokens_of(text: str, *, special: bool) -> list[int]:
    """The text as bytes, and its markers as single tokens if they are `special`."""
    if not special:
        return list(text.encode())
    pieces = re.split("(" + "|".join(map(re.escape, SPECIAL)) + ")", text)
    return [token for piece in pieces for token in ([SPECIAL[piece]] if piece in SPECIAL else piece.encode())]


def accepts(lark: str, text: str, *, special: bool) -> bool:
    """Whether the grammar lets exactly this answer through."""
    matcher = LLMatcher(TOKENIZER, LLMatcher.grammar_from_lark(lark))
    assert not matcher.is_error(), matcher.get_error()
    tokens = tokens_of(text, special=special)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


def ids(special: bool) -> Any:
    return SPECIAL.get if special else lambda text: None


WEATHER = {
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "unit": {"type": "string", "enum": ["C", "F"]},
            "days": {"$ref": "#/$defs/few"},
        },
        "required": ["city"],
        "additionalProperties": False,
        "$defs": {"few": {"type": "integer", "maximum": 9}},
    },
}


def tools(choice: Any = "required", *, strict: bool = False, **rest: Any) -> Tools:
    """Two tools, one of them with parameters."""
    offered = ({**WEATHER, "strict": strict}, {"name": "now"})
    documents = tuple({"type": "function", "function": function} for function in offered)
    return tools_of(Task(id=1, operation=Operation.CHAT, tools=documents, tool_choice=choice, **rest))


ROME, OSLO = '{"city": "Rome", "days": 2}', '{"city": "Oslo"}'

# How each format writes one call and a second one behind it; none where it takes one only.
WRITTEN: dict[str, tuple[Format, str, str | None]] = {
    "hermes": (
        formats.HERMES,
        f'<tool_call>\n{{"name": "get_weather", "arguments": {ROME}}}\n</tool_call>',
        '\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
    ),
    "llama": (formats.LLAMA, f'{{"name": "get_weather", "parameters": {ROME}}}', None),
    "mistral": (formats.MISTRAL, f'[TOOL_CALLS][{{"name": "get_weather", "arguments": {ROME}}}]', None),
    "mistral, named": (
        formats.MISTRAL_NAMED,
        f"[TOOL_CALLS]get_weather[ARGS]{ROME}",
        "[TOOL_CALLS]now[ARGS]{}",
    ),
    "functionary 3.1": (
        formats.FUNCTIONARY_TAGS,
        f"<function=get_weather>{ROME}</function>",
        "<function=now>{}</function>",
    ),
    "functionary 3.2": (formats.FUNCTIONARY, f"get_weather\n{ROME}", "\n>>>now\n{}"),
    "deepseek r1": (
        formats.DEEPSEEK_R1,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
        f"{ROME}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        None,
    ),
    "deepseek v3.1": (
        formats.DEEPSEEK,
        f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{ROME}<｜tool▁call▁end｜>"
        "<｜tool▁calls▁end｜>",
        None,
    ),
    "kimi": (
        formats.KIMI,
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
        f"{ROME}<|tool_call_end|><|tool_calls_section_end|>",
        None,
    ),
    "command": (
        formats.COMMAND,
        '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "get_weather", "parameters": '
        f"{ROME}}}\n]<|END_ACTION|>",
        None,
    ),
    "granite": (formats.GRANITE, f'<|tool_call|>[{{"name": "get_weather", "arguments": {ROME}}}]', None),
    "harmony": (
        formats.HARMONY,
        f"<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{ROME}",
        None,
    ),
    "qwen coder": (
        formats.QWEN_CODER,
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=days>\n2\n"
        "</parameter>\n</function>\n</tool_call>",
        "\n<tool_call>\n<function=now>\n</function>\n</tool_call>",
    ),
    "glm": (
        formats.GLM,
        "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n<arg_key>days</arg_key>\n"
        "<arg_value>2</arg_value>\n</tool_call>",
        "\n<tool_call>now\n</tool_call>",
    ),
    "minimax": (
        formats.MINIMAX,
        '<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Rome</parameter>\n'
        '<parameter name="days">2</parameter>\n</invoke>\n</minimax:tool_call>',
        None,
    ),
}
CASES = pytest.mark.parametrize(("form", "one", "more"), WRITTEN.values(), ids=WRITTEN.keys())
VOCABULARIES = pytest.mark.parametrize("special", [True, False], ids=["tokens", "spelled"])


@VOCABULARIES
@CASES
def test_a_required_call_is_one(form: Format, one: str, more: str | None, special: bool) -> None:
    """Nothing but calls passes: no text, no other name, no argument against its schema."""
    lark = Grammar(form, ids(special)).calls(tools())

    assert accepts(lark, one, special=special)
    assert not accepts(lark, "Hello", special=special)
    assert not accepts(lark, one.replace("get_weather", "sing"), special=special)
    assert not accepts(lark, one.replace("2", "12"), special=special)
    assert not accepts(lark, one.replace("city", "town"), special=special)
    assert not accepts(lark, one + "Hello", special=special)
    if more is not None:
        assert accepts(lark, one + more, special=special)


@CASES
def test_one_call_where_one_is_allowed(form: Format, one: str, more: str | None) -> None:
    """With `parallel_tool_calls: false`, or a function by name, there is no second call."""
    alone = Grammar(form, ids(True)).calls(tools(parallel_tool_calls=False))
    named = Grammar(form, ids(True)).calls(tools({"type": "function", "function": {"name": "get_weather"}}))
    other = Grammar(form, ids(True)).calls(tools({"type": "function", "function": {"name": "now"}}))

    for lark in (alone, named):
        assert accepts(lark, one, special=True)
        assert not accepts(lark, one + (more or one), special=True)
    assert not accepts(other, one, special=True)


@CASES
def test_what_the_grammar_allows_the_parser_reads(form: Format, one: str, more: str | None) -> None:
    """The two agree on how a call is written."""
    offered = tools()
    primed = ">>>" if form is formats.FUNCTIONARY else ""
    kind = HarmonyParser if form is formats.HARMONY else ChatParser
    reader = kind(0, Manner(form, offered, primed=primed))

    events = [*reader.feed(one + (more or "")), *reader.flush("stop")]

    assert all(isinstance(event, ToolFragment) for event in events)
    names = [event.name for event in events if isinstance(event, ToolFragment) and event.name]
    assert names == ["get_weather", "now"][: 2 if more else 1]


@VOCABULARIES
@pytest.mark.parametrize("thinks", [True, False])
def test_reasoning_may_come_first(thinks: bool, special: bool) -> None:
    """Free text up to the end of the reasoning, then the call; it must end if the prompt has begun it."""
    one = WRITTEN["mistral, named"][1]
    lark = Grammar(formats.MISTRAL_NAMED, ids(special), ("[THINK]", "[/THINK]"), thinks).calls(tools())
    begin = "" if thinks else "[THINK]"

    assert accepts(lark, f'{begin}Rome, {{"x": [/TH.[/THINK]\n\n{one}', special=special)
    assert accepts(lark, f"{begin}[/THINK]{one}", special=special)
    assert accepts(lark, one, special=special) != thinks
    assert not accepts(lark, f"{begin}Well.[/THINK]Hello", special=special)


def test_harmony_reasons_in_its_own_channel() -> None:
    """Analysis ends, a new message begins, and that is the call or the final answer."""
    thought = ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant")
    grammar = Grammar(formats.HARMONY, ids(True), thought)
    analysis = "<|channel|>analysis<|message|>Well.<|end|><|start|>assistant"
    one = WRITTEN["harmony"][1]

    assert accepts(grammar.calls(tools()), analysis + one, special=True)
    assert accepts(grammar.calls(tools()), one, special=True)
    answer = grammar.answer(inlined({"type": "integer"}))
    assert accepts(answer, f"{analysis}<|channel|>final<|message|>12", special=True)
    assert not accepts(answer, f"{analysis}<|channel|>final<|message|>twelve", special=True)


@VOCABULARIES
@CASES
def test_strict_tools_bind_calls_but_not_words(
    form: Format, one: str, more: str | None, special: bool
) -> None:
    """With `auto` any text passes; what begins like a call must go on as one."""
    lark = Grammar(form, ids(special)).lazy(tools("auto", strict=True))
    if lark is None:
        assert form.name in {"llama3", "harmony", "functionary-3.2"}
        return

    assert accepts(lark, "Hello {there}\n", special=special)
    assert accepts(lark, one, special=special)
    assert accepts(lark, f"I look.\n{one}", special=special)
    assert not accepts(lark, one.replace("get_weather", "sing"), special=special)
    assert not accepts(lark, f"I look. {one.replace('city', 'town')}", special=special)


def test_an_enumeration_between_tags_is_its_words() -> None:
    """And text may hold anything but its end."""
    lark = Grammar(formats.QWEN_CODER, ids(True)).calls(tools())

    def call(city: str, unit: str) -> str:
        return (
            f"<tool_call>\n<function=get_weather>\n<parameter=city>\n{city}\n</parameter>\n<parameter=unit>\n"
            f"{unit}\n</parameter>\n</function>\n</tool_call>"
        )

    assert accepts(lark, call('Ro\n</para "me"', "C"), special=True)
    assert not accepts(lark, call("Rome", "K"), special=True)


ODD: dict[str, Any] = {
    "not": {"type": "integer", "not": {"const": 1}},
    "pattern": {"type": "string", "pattern": "^(?!a)b$"},
    "reference": {"$ref": "#/$defs/nowhere"},
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
@pytest.mark.parametrize("form", [formats.LLAMA, formats.GLM], ids=["json", "tags"])
def test_a_lax_tool_may_say_what_no_grammar_can(odd: dict[str, Any], form: Format) -> None:
    """Of a tool that is not strict the rest is held to; a strict one is refused by name."""
    parameters = {"type": "object", "properties": {"x": odd, "n": {"type": "integer"}}, "required": ["n"]}

    def lark(*, strict: bool) -> str:
        document = {"type": "function", "function": {"name": "f", "parameters": parameters, "strict": strict}}
        task = Task(id=1, operation=Operation.CHAT, tools=(document,), tool_choice="required")
        return Grammar(form, ids(True)).calls(tools_of(task))

    calls = {
        "llama3": '{"name": "f", "parameters": {"x": [1], "n": N}}',
        "glm": "<tool_call>f\n<arg_key>x</arg_key>\n<arg_value>[1]</arg_value>\n<arg_key>n</arg_key>\n"
        "<arg_value>N</arg_value>\n</tool_call>",
    }
    if "pattern" not in odd or form is formats.LLAMA:
        assert accepts(lark(strict=False), calls[form.name].replace("N", "1"), special=True)
        assert not accepts(lark(strict=False), calls[form.name].replace("N", '"1"'), special=True)
    if "pattern" not in odd:
        with pytest.raises(TaskRefused) as refused:
            lark(strict=True)
        assert refused.value.by_call


def test_calls_or_an_answer_in_its_form() -> None:
    """Tools beside `response_format`: the answer is one or the other."""
    answer = inlined({"type": "integer"})
    lark = Grammar(formats.HERMES, ids(True)).calls_or(tools("auto"), answer)

    assert accepts(lark, "12", special=True)
    assert accepts(lark, WRITTEN["hermes"][1], special=True)
    assert not accepts(lark, "twelve", special=True)
