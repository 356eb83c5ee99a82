"""The form that an answer is to have: OpenAI's `response_format`, and what llama-server and vLLM call it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from hybrid_router.api.openai import malformed
from hybrid_router.api.openai.fields import MOST_CHOICE_CHARACTERS, CommonBody, StructuredOutputs
from hybrid_router.core.call import Feature
from hybrid_router.core.errors import CallRefused, UnsupportedParameter

_KINDS = "text, json_object, json_schema, grammar or regex"
_LONGEST = {"grammar": 65_536, "regex": 8_192}
_BESIDE: Mapping[str, str] = MappingProxyType(  # field → what it holds
    {
        "grammar": "grammar",
        "guided_grammar": "grammar",
        "regex": "regex",
        "guided_regex": "regex",
        "guided_choice": "choice",
        "json_schema": "json",
        "guided_json": "json",
    }
)
_WITHIN = ("json", "regex", "choice", "grammar")  # fields of `structured_outputs`, by what they hold
_SYNTAX = re.compile(r"[\\.^$|?*+()\[\]{}]")
# They change what a form allows, or when it begins to hold.
_CHANGES = ("guided_whitespace_pattern", "grammar_lazy", "grammar_triggers")
_CHANGES_WITHIN = (
    "structural_tag",
    "whitespace_pattern",
    "disable_additional_properties",
    "disable_any_whitespace",
)


def wanted(body: CommonBody, *, with_tools: bool = False) -> dict[str, Any] | None:
    """The form as `Call.response_format` has it; None: plain text.

    Raises:
        CallRefused: it is none, there are two, or tools do not go with it.
        UnsupportedParameter: it is to be kept to in a way that is not known here.
    """
    _refuse_changes(body, _CHANGES)
    given = list(_given(body))
    if len(given) > 1:
        (first, _), (second, _) = given[:2]
        raise CallRefused(f"{second}: not together with {first}", param=second)
    for name, form in given:
        if with_tools and form["type"] in _LONGEST:
            # A tool's call is written in the model's own form, which no grammar of a client's allows for.
            raise UnsupportedParameter(f"{name}: not together with tools", param=name)
        return form
    return None


def feature(form: dict[str, Any] | None) -> frozenset[Feature]:
    """What a model must be able to do to keep to `form`."""
    if form is None:
        return frozenset()
    return frozenset({Feature.GRAMMAR if form["type"] in _LONGEST else Feature.SCHEMA})


def _given(body: CommonBody) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every form that is asked for, with the name of its field."""
    if body.response_format is not None and (form := _checked(body.response_format)) is not None:
        yield "response_format", form
    for name, kind in _BESIDE.items():
        value = getattr(body, name)
        if value is not None and (value or kind != "grammar"):  # an empty grammar is none
            yield name, _form(name, kind, value)
    if body.structured_outputs is not None:
        yield from _given_within(body.structured_outputs)


def _given_within(outputs: StructuredOutputs) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same of `structured_outputs`."""
    _refuse_changes(outputs, _CHANGES_WITHIN, "structured_outputs.")
    for kind in _WITHIN:
        if (value := getattr(outputs, kind)) is not None:
            name = f"structured_outputs.{kind}"
            yield name, _form(name, kind, value)
    if outputs.json_object:
        yield "structured_outputs.json_object", {"type": "json_object"}


def _refuse_changes(asked: CommonBody | StructuredOutputs, names: tuple[str, ...], before: str = "") -> None:
    for name in names:
        if getattr(asked, name):
            raise UnsupportedParameter(
                f"{before}{name} is not supported; leave it out", param=f"{before}{name}"
            )


def _form(name: str, kind: str, value: Any) -> dict[str, Any]:
    """The value of a field as `response_format` would say it."""
    if kind == "json":
        return _schema_form(value if isinstance(value, dict) else _read_schema(name, value))
    if kind == "choice":
        return {"type": "regex", "regex": _one_of(name, value)}
    return {"type": kind, kind: value}


def _read_schema(name: str, text: str) -> dict[str, Any]:
    """A schema that is written as a text, which vLLM takes."""
    try:
        schema = msgspec.json.decode(text, type=dict[str, Any])
        malformed.refuse_deep(schema, name)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise CallRefused(f"{name}: expected a JSON Schema, as an object or its JSON", param=name) from None
    return schema


def _one_of(name: str, choices: list[str]) -> str:
    """The pattern of an answer that is one of `choices`, as it stands."""
    between_count = len(choices) - 1
    if sum(map(len, choices)) + between_count > MOST_CHOICE_CHARACTERS:
        raise CallRefused(f"{name}: {MOST_CHOICE_CHARACTERS} characters are accepted in all", param=name)
    return "|".join(_SYNTAX.sub(r"\\\g<0>", choice) for choice in choices)


def _schema_form(schema: dict[str, Any]) -> dict[str, Any]:
    """A bare schema in OpenAI's wrapping."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


def _checked(asked: dict[str, Any]) -> dict[str, Any] | None:
    """`response_format` as it is kept; None for plain text."""
    match asked.get("type"):
        case "text":
            return None
        case "json_object":
            return _json_object(asked)
        case "json_schema":
            _check_schema(asked.get("json_schema"))
            return asked
        case "grammar" | "regex" as kind:
            return {"type": kind, kind: _text(asked.get(kind), kind)}
    raise CallRefused(f"response_format.type: expected {_KINDS}", param="response_format.type")


def _json_object(asked: dict[str, Any]) -> dict[str, Any]:
    """llama-server takes a schema beside this type, and keeps to it."""
    schema = asked.get("schema")
    if schema is None:
        return asked
    if not isinstance(schema, dict):
        raise CallRefused("response_format.schema: expected an object", param="response_format.schema")
    return _schema_form(schema)


def _check_schema(schema: Any) -> None:
    """`json_schema` has a name and maybe a schema."""
    if not isinstance(schema, dict) or not isinstance(schema.get("name"), str):
        raise CallRefused(
            "response_format.json_schema.name: expected a name", param="response_format.json_schema.name"
        )
    if not isinstance(schema.get("schema", {}), dict):
        raise CallRefused(
            "response_format.json_schema.schema: expected an object",
            param="response_format.json_schema.schema",
        )


def _text(value: Any, kind: str) -> str:
    """A grammar or a pattern."""
    if not isinstance(value, str) or not 1 <= len(value) <= _LONGEST[kind]:
        raise CallRefused(
            f"response_format.{kind}: expected a text of 1 to {_LONGEST[kind]} characters",
            param=f"response_format.{kind}",
        )
    return value
