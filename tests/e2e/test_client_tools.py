"""Tools as a client program uses them: OpenAI's package and bare bytes, on the real service and model."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import jsonschema
import openai
import pytest
from pydantic import BaseModel, Field
from router_process import Router
from wire_client import Answer, ask, chat_body

from bench.llama_joiners import Calls, by_id, by_index, by_name

pytestmark = [pytest.mark.model, pytest.mark.timeout(60)]

MODEL = "local-only"
Document = dict[str, Any]


def closed(**properties: Document) -> Document:
    """A schema of an object that has these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def tool(name: str, parameters: Document) -> Any:
    """A function as clients offer it."""
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def named(name: str) -> Any:
    """The choice of one function."""
    return {"type": "function", "function": {"name": name}}


DIGITS = {"type": "integer", "minimum": 0, "maximum": 99}
ADD = tool("add", closed(a=DIGITS, b=DIGITS))
FLIP = tool("flip", closed(coin={"enum": ["dime", "penny"]}))
PERSON = closed(name={"type": "string", "maxLength": 6}, seat={"enum": ["aisle", "window"]})
BOOK = tool(
    "book",
    {
        **closed(
            to={"type": "string", "enum": ["Rome", "Oslo"]},
            who={"type": "array", "items": {"$ref": "#/$defs/person"}, "minItems": 1, "maxItems": 1},
            late={"type": "boolean"},
        ),
        "$defs": {"person": PERSON},
    },
)
TOOLS = [ADD, FLIP, BOOK]
SCHEMAS: dict[str, Document] = {one["function"]["name"]: one["function"]["parameters"] for one in TOOLS}
ASKED: list[Document] = [
    {"role": "user", "content": "Add 2 and 7."},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": 7}'}}
        ],
    },
    {"role": "user", "content": "Add 15 and 6."},
]


@pytest.fixture
def client(router: Router) -> Iterator[openai.OpenAI]:
    """The blocking client; it never tries twice by itself."""
    with openai.OpenAI(base_url=router.url + "/v1", api_key="any", max_retries=0, timeout=50) as made:
        yield made


@pytest.fixture
async def waiting_client(router: Router) -> AsyncIterator[openai.AsyncOpenAI]:
    """The asynchronous client."""
    async with openai.AsyncOpenAI(
        base_url=router.url + "/v1", api_key="any", max_retries=0, timeout=50
    ) as made:
        yield made


def body(said: str = "Book seats, add 3 and 4.", **fields: Any) -> Document:
    """A call that is sampled with a seed, so that it can be asked for again.

    All have the same tools, so that what the template says of them is computed once.
    """
    return chat_body(
        MODEL, said, **{"tools": TOOLS, "temperature": 0.9, "seed": 7, "max_tokens": 120, **fields}
    )


def plain_calls(answer: Answer) -> Calls:
    """Names and arguments of the calls in a whole reply."""
    found = answer.choices[0]["message"].get("tool_calls") or ()
    return [(one["function"]["name"], one["function"]["arguments"]) for one in found]


def joined(answer: Answer) -> Calls:
    """What three readers of a stream, who join its fragments in ways of their own, all make of it."""
    calls = by_index(answer.documents)
    assert by_id(answer.documents) == by_name(answer.documents) == calls
    return calls


def assert_valid(calls: Calls) -> None:
    """Each calls a tool that was offered, with arguments by its schema."""
    for name, arguments in calls:
        jsonschema.validate(json.loads(arguments), SCHEMAS[name])


def assert_shape(answer: Answer) -> None:
    """One fragment a chunk; id, type and name once, first; one call after the other; then the finish."""
    deltas = [choice["delta"] for choice in answer.choices]
    fragments = [delta["tool_calls"] for delta in deltas if "tool_calls" in delta]
    assert all(len(found) == 1 for found in fragments)
    assert all(set(delta) == {"tool_calls"} for delta in deltas if "tool_calls" in delta)
    positions = [found[0]["index"] for found in fragments]
    assert positions == sorted(positions)
    firsts = [next(found[0] for found in fragments if found[0]["index"] == at) for at in set(positions)]
    assert all(first["id"] and first["function"]["name"] for first in firsts)
    assert all(first["type"] == "function" for first in firsts)
    assert len({first["id"] for first in firsts}) == len(firsts)
    for found in fragments:
        if found[0] not in firsts:
            assert set(found[0]) == {"index", "function"}
            assert set(found[0]["function"]) == {"arguments"}
    assert answer.finish_reasons == ["tool_calls"]
    assert answer.choices[-1]["delta"] == {}


CHOICES: dict[str, Document] = {
    "any": {"tool_choice": "required", "parallel_tool_calls": False},
    "a nested schema": {"tool_choice": named("book")},
}


@pytest.mark.parametrize("case", CHOICES)
async def test_a_call_that_must_come_is_valid(router: Router, case: str) -> None:
    """With `required` or a name there is a call, by its schema, in a plain reply and in a stream, whose
    fragments have the shape that every client can join.  Which call it is, even of one seed, may turn on
    how the batch was computed."""
    plain = await ask(router, body(**CHOICES[case]))
    streamed = await ask(router, body(stream=True, **CHOICES[case]))

    for calls in (plain_calls(plain), joined(streamed)):
        assert len(calls) == 1
        assert_valid(calls)
    assert plain.finish_reasons == ["tool_calls"]
    assert plain.choices[0]["message"]["content"] is None
    assert_shape(streamed)
    assert streamed.documents[-1]["choices"] == []
    assert streamed.counted[0] == plain.counted[0]
    assert streamed.counted[1] > 0


async def test_many_calls_come_one_after_another(router: Router) -> None:
    """A model that goes on calling is stopped after eight calls, all of the tool that is allowed; the three
    readers agree on each."""
    allowed = {"mode": "required", "tools": [named("flip")]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    answer = await ask(router, body(stream=True, tool_choice=choice, ignore_eos=True, max_tokens=400))

    calls = joined(answer)
    assert [name for name, _ in calls] == ["flip"] * 8
    assert_valid(calls)
    assert_shape(answer)


async def test_a_limit_within_a_call_is_told(router: Router) -> None:
    """A call that was cut ends with `length`, never with `tool_calls`; the readers agree on what there is."""
    fields: Document = {"tool_choice": named("book"), "max_tokens": 24}
    plain = await ask(router, body(**fields))
    streamed = await ask(router, body(stream=True, **fields))

    assert plain.finish_reasons == streamed.finish_reasons == ["length"]
    assert [name for name, _ in joined(streamed)] == ["book"]
    for _, arguments in (*joined(streamed), *plain_calls(plain)):
        with pytest.raises(json.JSONDecodeError):
            json.loads(arguments)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_calls_of_its_own_accord(router: Router, stream: bool) -> None:
    """With `auto` the model's own way of calling is read back; nothing of it is left in the text."""
    answer = await ask(router, {**body(stream=stream, temperature=0), "messages": ASKED})

    calls = joined(answer) if stream else plain_calls(answer)
    assert calls, f"the model was expected to imitate the call before: {answer.text()!r}"
    assert_valid(calls)
    assert answer.finish_reasons == ["tool_calls"]
    assert answer.text() == ""


@pytest.mark.parametrize("stream", [False, True])
async def test_tools_that_are_forbidden_are_not_called(router: Router, stream: bool) -> None:
    """With `none` there is text and no call, however much the conversation suggests one."""
    said = body("Add 15 and 6.", stream=stream, tool_choice="none", max_tokens=12)
    answer = await ask(router, said)

    assert answer.text()
    assert answer.finish_reasons[0] in {"stop", "length"}
    spoken = [choice.get("delta") or choice.get("message") or {} for choice in answer.choices]
    assert all("tool_calls" not in one for one in spoken)


def test_a_tools_result_is_answered(client: openai.OpenAI) -> None:
    """The second turn, with the call and its result as the package has them, is answered in text, and finds
    the first turn's prompt computed."""
    messages: list[Any] = [{"role": "user", "content": "Add 2 and 7."}]
    first = client.chat.completions.create(
        model=MODEL,
        messages=messages,
        tools=TOOLS,
        tool_choice=named("add"),
        max_tokens=48,
        temperature=0,
    )
    said = first.choices[0].message
    assert said.tool_calls
    messages += [said, {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": "9"}]
    second = client.chat.completions.create(
        model=MODEL, messages=messages, tools=TOOLS, max_tokens=16, temperature=0
    )

    assert second.choices[0].message.content
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.prompt_tokens_details is not None
    assert (second.usage.prompt_tokens_details.cached_tokens or 0) >= first.usage.prompt_tokens


class Guest(BaseModel):
    """Who comes."""

    name: str = Field(max_length=6)
    seat: Literal["aisle", "window"]


class Party(BaseModel):
    """Who comes, and where to."""

    guests: list[Guest] = Field(min_length=1, max_length=1)
    outdoors: bool | None


PARTY: Any = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Give a party."}],
    "tools": [openai.pydantic_function_tool(Party)],
    "tool_choice": named("Party"),
    "max_tokens": 80,
}


def test_the_package_parses_calls_into_models(client: openai.OpenAI) -> None:
    """`parse` with a model of pydantic's as a strict tool gives an instance of it."""
    reply = client.chat.completions.parse(**PARTY)

    calls = reply.choices[0].message.tool_calls
    assert calls
    assert isinstance(calls[0].function.parsed_arguments, Party)


async def test_the_packages_stream_joins_calls(waiting_client: openai.AsyncOpenAI) -> None:
    """The package's own accumulating stream: arguments that grow, the instance at the end, and usage."""
    async with waiting_client.chat.completions.stream(
        **PARTY, stream_options={"include_usage": True}
    ) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_completion()

    grown = [event for event in events if event.type == "tool_calls.function.arguments.delta"]
    done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert len(done) == 1
    assert "".join(event.arguments_delta for event in grown) == done[0].arguments
    assert isinstance(done[0].parsed_arguments, Party)
    assert final.choices[0].finish_reason == "tool_calls"
    assert final.usage is not None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [ADD], "tool_choice": named("sub")}, "tool_choice.function.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": [ADD], "regex": "a+"}, "regex"),
    ],
)
def test_a_wrong_tool_is_refused_by_name(client: openai.OpenAI, fields: Any, param: str) -> None:
    """The package raises its BadRequestError, which names the field."""
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Add"}], extra_body=fields
        )
    assert refused.value.param == param


def test_a_strict_tool_that_cannot_be_enforced_is_refused(client: openai.OpenAI) -> None:
    """With the keyword that is not enforced, and its place."""
    parameters = closed(tags={"type": "array", "uniqueItems": True})
    strict: Any = {
        "type": "function",
        "function": {"name": "label", "parameters": parameters, "strict": True},
    }
    with pytest.raises(openai.BadRequestError, match=r"uniqueItems.*#/properties/tags"):
        client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Label"}],
            tools=[strict],
            tool_choice="required",
        )
