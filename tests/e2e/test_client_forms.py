"""Answers of a form as a client program asks for them: every answer is held against what it asked for."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any, Literal

import jsonschema
import openai
import pytest
from pydantic import BaseModel, Field
from router_process import Router

pytestmark = [pytest.mark.model, pytest.mark.timeout(60)]

MODEL = "local-only"
SAID: Any = [{"role": "user", "content": "Give an example."}]
Document = dict[str, Any]


def closed(**properties: Document) -> Document:
    """A schema of an object that has these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


WORD = {"type": "string", "maxLength": 6}
SCHEMAS: dict[str, Document] = {
    "a text": closed(a=WORD),
    "least length": closed(a={"type": "string", "minLength": 3, "maxLength": 5}),
    "enum": closed(a={"enum": ["red", "blü", 7, None]}),
    "const": closed(a={"const": {"b": [1, "two"]}}),
    "pattern": closed(a={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}),
    "date": closed(a={"type": "string", "format": "date"}),
    "uuid": closed(a={"type": "string", "format": "uuid"}),
    "ipv4": closed(a={"type": "string", "format": "ipv4"}),
    "whole number": closed(a={"type": "integer", "minimum": -3, "maximum": 212}),
    "number": closed(a={"type": "number", "minimum": 0, "exclusiveMaximum": 2}),
    "multiple": closed(a={"type": "integer", "multipleOf": 5, "minimum": 1, "maximum": 99}),
    "list": closed(a={"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3}),
    "tuple": closed(
        a={"type": "array", "prefixItems": [{"const": 1}, WORD], "items": False, "minItems": 2, "maxItems": 2}
    ),
    "either": closed(a={"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 1, "maximum": 9}]}),
    "one of": {"oneOf": [closed(kind={"const": "cat"}), closed(kind={"const": "dog"}, age={"enum": [1, 2]})]},
    "all of": closed(a={"allOf": [{"type": "integer", "minimum": 10}, {"maximum": 20}]}),
    "types": closed(a={"type": ["boolean", "null"]}),
    "referred": {
        **closed(a={"$ref": "#/$defs/b"}, c={"$ref": "#/$defs/b"}),
        "$defs": {"b": closed(x={"enum": ["up", "down"]})},
    },
    "optional": {"type": "object", "properties": {"a": WORD}, "additionalProperties": False},
    "not an object": {"type": "array", "items": {"enum": [1, 2, 3]}, "minItems": 1, "maxItems": 4},
}
NOT_ENFORCED: dict[str, Document] = {
    "uniqueItems": closed(a={"type": "array", "uniqueItems": True}),
    "not": closed(a={"not": {"type": "string"}}),
    "contains": closed(a={"type": "array", "contains": {"const": 1}}),
    "if": {"type": "object", "if": {"required": ["a"]}, "then": {"required": ["b"]}},
    "propertyNames": {"type": "object", "propertyNames": {"maxLength": 2}},
    "dependentRequired": {"type": "object", "dependentRequired": {"a": ["b"]}},
    "format": closed(a={"type": "string", "format": "regex"}),
    "$ref": closed(a={"$ref": "https://example.com/schema.json"}),
}


@pytest.fixture
async def client(router: Router) -> AsyncIterator[openai.AsyncOpenAI]:
    """It never tries twice by itself."""
    async with openai.AsyncOpenAI(
        base_url=router.url + "/v1", api_key="any", max_retries=0, timeout=50
    ) as made:
        yield made


def strict(schema: Document) -> Any:
    """A schema as OpenAI takes it."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


async def whole(client: openai.AsyncOpenAI, **fields: Any) -> list[tuple[str, str]]:
    """Text and finish reason of every choice of a plain reply."""
    asked = {"model": MODEL, "messages": SAID, "temperature": 1, "max_tokens": 60, **fields}
    reply = await client.chat.completions.create(**asked)
    return [(choice.message.content or "", choice.finish_reason) for choice in reply.choices]


async def streamed(client: openai.AsyncOpenAI, **fields: Any) -> list[tuple[str, str]]:
    """The same of a stream's chunks, joined."""
    asked = {"model": MODEL, "messages": SAID, "temperature": 1, "max_tokens": 60, **fields}
    texts = [""] * fields.get("n", 1)
    reasons = [""] * fields.get("n", 1)
    async for chunk in await client.chat.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            reasons[choice.index] += choice.finish_reason or ""
    return list(zip(texts, reasons, strict=True))


ASKING = {"plain": whole, "streamed": streamed}


@pytest.mark.parametrize("name", SCHEMAS)
async def test_every_answer_fits_its_schema(client: openai.AsyncOpenAI, name: str) -> None:
    """Sampled at temperature 1, plain and streamed beside each other: JSON by the schema, both finished."""
    wanted = strict(SCHEMAS[name])
    answers = await asyncio.gather(
        whole(client, response_format=wanted, seed=1), streamed(client, response_format=wanted, seed=2)
    )

    for [(text, reason)] in answers:
        assert reason == "stop"
        jsonschema.validate(json.loads(text), SCHEMAS[name], format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize("way", ASKING)
async def test_all_choices_fit(client: openai.AsyncOpenAI, way: str) -> None:
    """Three choices of one call are bound each by itself."""
    schema = closed(name=WORD, age={"type": "integer", "minimum": 0, "maximum": 120})
    answers = await ASKING[way](client, response_format=strict(schema), n=3, seed=5)

    assert [reason for _, reason in answers] == ["stop"] * 3
    for text, _ in answers:
        jsonschema.validate(json.loads(text), schema)


@pytest.mark.parametrize("way", ASKING)
async def test_an_object_of_any_kind(client: openai.AsyncOpenAI, way: str) -> None:
    """`json_object` is an object, if it was not cut; what was cut says so."""
    said: Any = [{"role": "user", "content": 'Answer {"ok": true} in JSON.'}]
    [(text, reason)] = await ASKING[way](
        client, messages=said, response_format={"type": "json_object"}, temperature=0, max_tokens=40
    )

    assert text.startswith("{")
    if reason == "stop":
        assert isinstance(json.loads(text), dict)
    else:
        assert reason == "length"


@pytest.mark.parametrize("way", ASKING)
async def test_what_was_cut_is_not_claimed_complete(client: openai.AsyncOpenAI, way: str) -> None:
    """With too few tokens for the form, `length` and the beginning of an answer."""
    schema = closed(name={"const": "a text that takes many tokens to write"})
    [(text, reason)] = await ASKING[way](client, response_format=strict(schema), max_tokens=6)

    assert reason == "length"
    assert '{"name": "a text that takes many tokens to write"}'.startswith(text)
    assert text
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)


@pytest.mark.parametrize("keyword", NOT_ENFORCED)
async def test_what_is_not_enforced_is_refused_by_name(client: openai.AsyncOpenAI, keyword: str) -> None:
    """A 400 that names the keyword, streamed or not, rather than an answer that ignores it."""
    for way in ASKING.values():
        with pytest.raises(openai.BadRequestError, match=re.escape(f"`{keyword}`")):
            await way(client, response_format=strict(NOT_ENFORCED[keyword]))


FORMS: dict[str, tuple[Document, str]] = {
    "GBNF": ({"grammar": 'root ::= ("left" | "right") "-" [0-9]{2}'}, "(left|right)-[0-9]{2}"),
    "recursion": ({"grammar": 'root ::= "x" | "(" root ")"', "logit_bias": {"1": -5}}, r"\(*x\)*"),
    "regex": ({"regex": "[a-f]{3}[.!]"}, "[a-f]{3}[.!]"),
    "vLLM": ({"guided_regex": "(ja|nein)"}, "(ja|nein)"),
    "format": ({"response_format": {"type": "regex", "regex": "[0-9]{1,3}%"}}, "[0-9]{1,3}%"),
    "llama-server": ({"json_schema": {"enum": ["a", "b"]}}, '"[ab]"'),
}


@pytest.mark.parametrize("name", FORMS)
async def test_grammars_and_patterns_hold(client: openai.AsyncOpenAI, name: str) -> None:
    """The extensions of local servers, by `extra_body`: the whole answer is in the language."""
    extra, pattern = FORMS[name]
    answers = await asyncio.gather(
        whole(client, extra_body=extra, max_tokens=24), streamed(client, extra_body=extra, max_tokens=24)
    )

    for [(text, reason)] in answers:
        if reason == "stop":
            assert re.fullmatch(pattern, text)
        else:
            assert name == "recursion"  # it may go on for ever


async def test_a_completion_has_forms_too(client: openai.AsyncOpenAI) -> None:
    """The older address knows the same extensions, for each of several prompts."""
    reply = await client.completions.create(
        model=MODEL, prompt=["A: ", "B: "], max_tokens=8, extra_body={"grammar": 'root ::= [a-c] [0-9] "\\n"'}
    )

    assert all(re.fullmatch("[a-c][0-9]\n", choice.text) for choice in reply.choices)
    assert len(reply.choices) == 2


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"grammar": "root ::= missing"}, "missing"),
        ({"grammar": 'start ::= "a"'}, "root"),
        ({"regex": "(a"}, "regex|pattern|group|parenthes"),
        ({"regex": "a(?=b)"}, "look"),
        ({"grammar": 'root ::= "a"', "regex": "a"}, "grammar"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"json_schema": {"type": "strin"}}, "strin"),
    ],
)
async def test_a_wrong_form_is_refused(client: openai.AsyncOpenAI, extra: Any, says: str) -> None:
    """A 400 that says what is wrong with it."""
    with pytest.raises(openai.BadRequestError, match=f"(?i){says}"):
        await whole(client, extra_body=extra)


class Pet(BaseModel):
    """A pet of somebody's."""

    name: str = Field(max_length=6)
    kind: Literal["cat", "dog"]
    toys: list[Literal["ball", "bone"]] = Field(max_length=1)
    chip: int | None = Field(ge=0, le=99)


async def test_the_package_parses_answers_into_models(client: openai.AsyncOpenAI) -> None:
    """`parse` and `stream` with a model of pydantic's give an instance of it."""
    parsed = await client.chat.completions.parse(
        model=MODEL, messages=SAID, response_format=Pet, max_tokens=60
    )
    async with client.chat.completions.stream(
        model=MODEL, messages=SAID, response_format=Pet, max_tokens=60
    ) as stream:
        final = await stream.get_final_completion()

    assert isinstance(parsed.choices[0].message.parsed, Pet)
    assert isinstance(final.choices[0].message.parsed, Pet)


async def test_the_package_notices_what_was_cut(client: openai.AsyncOpenAI) -> None:
    """`parse` raises the package's own error for an answer that met its limit."""
    with pytest.raises(openai.LengthFinishReasonError):
        await client.chat.completions.parse(model=MODEL, messages=SAID, response_format=Pet, max_tokens=4)
