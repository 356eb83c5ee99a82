"""The script: answers that a test knows in advance."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.core.call import Call, Message, Operation, Sampling
from hybrid_router.core.step import Step, Timeouts
from hybrid_router.emulator import example, tokens
from hybrid_router.emulator.forms import Answer
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
    ],
)
def test_a_tool_is_called_when_forced_or_named(text: str, choice: Any, called: str | None) -> None:
    """`tool_choice` forces a tool, a tool's name in the prompt asks for it, `none` forbids all."""
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
