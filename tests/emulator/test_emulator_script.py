"""The script: answers that a test knows in advance."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from hybrid_router.api.workers_ai.text_documents import Answer
from hybrid_router.core.call import Call, Message, Operation, Sampling
from hybrid_router.core.step import Step, Timeouts
from hybrid_router.emulator import example, tokens
from hybrid_router.emulator.script import REASONING, Script, expected

STEP = Step(
    backend="emulator",
    model="script",
    because="test",
    timeouts=Timeouts(connect_s=1, load_s=1, first_token_s=1, between_tokens_s=1, total_s=1),
)
SCHEMAS: list[dict[str, Any]] = [
    {"type": "object", "properties": {"a": {"type": "integer", "minimum": 7}}, "required": ["a"]},
    {"type": "object", "properties": {"a": {"enum": ["x", "y"]}, "b": {"type": "array", "minItems": 3}}},
    {"type": "array", "items": {"$ref": "#/$defs/it"}, "$defs": {"it": {"type": "number", "maximum": 0.5}}},
    {"anyOf": [{"type": "string", "minLength": 9}, {"type": "null"}]},
    {"type": ["boolean", "null"]},
    {"const": {"deep": [1]}},
    {"type": "number", "exclusiveMinimum": 4},
    {"type": "string", "maxLength": 2},
]


def allowed(mode: str, name: str) -> dict[str, Any]:
    """A choice of one tool."""
    tools = [{"type": "function", "function": {"name": name}}]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def chat(text: str, **more: Any) -> Call:
    """A call with one user message."""
    messages = (Message(role="user", content=text),)
    return Call(id="c", operation=Operation.CHAT, alias="m", messages=messages, **more)


@given(st.text())
def test_tokens_joined_are_the_text(text: str) -> None:
    """The tokenizer loses and invents nothing, whatever the text."""
    assert "".join(tokens.split(text)) == text


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("hello there", "You said: hello there"),
        ("  ", "You said nothing."),
        ("please count to 5", "1 2 3 4 5"),
        ("repeat: Ünïcode, 你好!", "Ünïcode, 你好!"),
    ],
)
def test_the_answer_follows_from_the_prompt(prompt: str, answer: str) -> None:
    """Echo, count, repeat: the same prompt always gets the same answer."""
    found = expected(chat(prompt))

    assert (found.text, found.finish, found.completion_tokens) == (answer, "stop", tokens.count(answer))
    assert found.prompt_tokens == tokens.count(prompt) + tokens.MESSAGE_OVERHEAD_TOKENS


def raw(prompt: str, **more: Any) -> Call:
    """A call with a raw prompt."""
    return Call(id="c", operation=Operation.COMPLETE, alias="m", prompts=(prompt,), **more)


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("count to 3", "\n1 2 3"),
        ("count to 11", "\n1 2 3 4 5 6 7 8 9 10 11"),
        ("repeat: a\nb", "\na\nb"),
        ("a\ncount to 2", "\n1 2"),
        ("hello", "\nYou said: hello"),
        ("1, 2, 4,", "\nYou said: 1, 2, 4,"),
    ],
)
def test_a_raw_prompt_is_gone_on_from(prompt: str, answer: str) -> None:
    """On a line of its own; cut anywhere, prompt and beginning together get exactly the rest."""
    for at in range(len(answer) + 1):
        assert expected(raw(prompt + answer[:at])).text == answer[at:]


@given(st.integers(0, 2000), st.integers(2, 90), st.integers(0, 40))
def test_a_series_goes_on_in_its_line(first: int, count: int, more: int) -> None:
    """Also from the middle of a number; the first hundred are said."""
    series = ", ".join(map(str, range(first, first + 100)))
    asked = ", ".join(map(str, range(first, first + count)))
    prompt = "Go on!\n" + series[: len(asked) + more]

    assert prompt + expected(raw(prompt)).text == "Go on!\n" + series


@given(st.integers(1, 30), st.integers(0, 90), st.integers(1, 9))
def test_the_rest_of_an_answer_has_limits_of_its_own(count: int, at: int, limit: int) -> None:
    """As at a cloud, for which what is written is part of what it is asked."""
    whole = expected(chat(f"count to {count}")).text
    written = whole[:at]

    rest = expected(chat(f"count to {count}", written=written))
    limited = expected(chat(f"count to {count}", written=written, sampling=Sampling(max_tokens=limit)))

    assert written + rest.text == whole
    assert limited.text == "".join(tokens.split(rest.text)[:limit])
    assert (limited.finish == "length") == (len(tokens.split(rest.text)) > limit)
    if written:
        fresh = expected(chat(f"count to {count}"))
        assert rest.prompt_tokens == fresh.prompt_tokens + tokens.count(written) + 3


def test_another_answers_beginning_is_not_gone_on_from() -> None:
    """The script says what it always says, without thinking again."""
    found = expected(chat("think: count to 3", written="Once upon"))

    assert (found.reasoning, found.text) == ("", "1 2 3")


def test_the_assistants_own_words_are_not_what_is_asked() -> None:
    """A turn that it finished is answered as if it had not been."""
    messages = (Message(role="user", content="count to 3"), Message(role="assistant", content="1 2"))

    assert expected(structs.replace(chat("x"), messages=messages)).text == "1 2 3"
    assert expected(structs.replace(chat("x"), messages=messages[1:])).text == "You said: 1 2"


def test_thinking_comes_first_and_counts() -> None:
    """`think:` gives reasoning whose tokens are completion tokens."""
    found = expected(chat("think: count to 3"))

    assert (found.reasoning, found.text) == (REASONING, "1 2 3")
    assert found.completion_tokens == tokens.count(REASONING) + 3


def test_a_small_budget_is_spent_on_thinking() -> None:
    """With fewer tokens than the reasoning has, nothing is said and the finish is `length`."""
    found = expected(chat("think: count to 3", sampling=Sampling(max_tokens=2)))

    assert (found.reasoning, found.text, found.finish) == ("Let me", "", "length")


@given(st.integers(1, 30), st.integers(1, 30))
def test_max_tokens_is_a_limit(count: int, limit: int) -> None:
    """Never more tokens than allowed; `length` exactly when something was cut."""
    found = expected(chat(f"count to {count}", sampling=Sampling(max_tokens=limit)))

    assert found.completion_tokens == min(count, limit)
    assert found.finish == ("length" if count > limit else "stop")


def test_the_earliest_stop_string_ends_the_text() -> None:
    """What follows a stop string, and the string itself, is not said."""
    found = expected(chat("count to 9", sampling=Sampling(stop=("7", "4 5", "zzz"))))

    assert (found.text, found.finish) == ("1 2 3 ", "stop")


@pytest.mark.parametrize(
    ("text", "choice", "called"),
    [
        ("anything", {"type": "function", "function": {"name": "second"}}, "second"),
        ("anything", "required", "first"),
        ("please use second", "auto", "second"),
        ("please use second", "none", None),
        ("anything", None, None),
        ("please use first", allowed("required", "second"), "second"),
        ("please use second", allowed("auto", "second"), "second"),
        ("please use first", allowed("auto", "second"), None),
    ],
)
def test_a_tool_is_called_when_forced_or_named(text: str, choice: Any, called: str | None) -> None:
    """`tool_choice` forces a tool, a tool's name in the prompt asks for it, `none` forbids all; of
    `allowed_tools` those alone are called."""
    tools = ({"type": "function", "function": {"name": "first"}}, {"name": "second", "parameters": {}})

    found = expected(chat(text, tools=tools, tool_choice=choice))

    assert found.tool == called
    assert (found.finish == "tool_calls") == (called is not None)


def test_after_a_tools_result_text_follows() -> None:
    """The result of a tool is answered in words, not by another call."""
    messages = (Message(role="user", content="first"), Message(role="tool", content="12 degrees"))
    call = Call(id="c", operation=Operation.CHAT, alias="m", messages=messages, tools=({"name": "first"},))

    assert expected(call).text == "The tool said: 12 degrees"


@pytest.mark.parametrize("schema", SCHEMAS)
def test_examples_fit_their_schema(schema: dict[str, Any]) -> None:
    """A made-up value is valid: it can stand as a tool's arguments or a JSON answer."""
    jsonschema.validate(example.value_for(schema), schema)


@pytest.mark.parametrize("wrap", [False, True])
def test_json_mode_answers_by_the_schema(wrap: bool) -> None:
    """A bare schema and OpenAI's wrapped one give the same valid JSON."""
    schema = SCHEMAS[0]
    given_schema = {"name": "n", "schema": schema} if wrap else schema

    found = expected(chat("x", response_format={"type": "json_schema", "json_schema": given_schema}))

    assert json.loads(found.text) == {"a": 7}


async def test_the_script_goes_on_from_any_beginning() -> None:
    """As a backend it says so, for answers of one choice."""
    assert Script().continues("any", chat("x"))
    assert not Script().continues("any", chat("x", n=2))


async def test_the_script_is_a_backend_that_says_what_is_expected() -> None:
    """Its events add up to `expected`, for every choice, with one usage at the end."""
    call = chat("think: count to 3", n=2)
    answer = Answer()
    async for batch in Script().run(call, STEP):
        assert batch
        answer.take(batch)

    told = expected(call)
    assert [(c.text, c.reasoning, c.finish) for c in answer.choices.values()] == [
        (told.text, told.reasoning, "stop")
    ] * 2
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2 * told.completion_tokens
