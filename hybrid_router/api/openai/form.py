"""The form that an answer is to have: OpenAI's `response_format`, and what llama-server and vLLM call it."""

from __future__ import annotations

from typing import Any

from hybrid_router.api.openai.fields import CommonBody
from hybrid_router.core.call import Feature
from hybrid_router.core.errors import CallRefused, UnsupportedParameter

_KINDS = "text, json_object, json_schema, grammar or regex"
_LONGEST = {"grammar": 65_536, "regex": 8_192}
_BESIDE = ("grammar", "regex", "guided_regex", "json_schema", "guided_json")


def wanted(body: CommonBody) -> dict[str, Any] | None:
    """The form as `Call.response_format` has it; None: plain text.

    Raises:
        CallRefused: it is none, or there are two.
    """
    form = None if body.response_format is None else _checked(body.response_format)
    named = [name for name in _BESIDE if getattr(body, name) is not None]
    if form is not None:
        named.insert(0, "response_format")
    if len(named) > 1:
        raise CallRefused(f"{named[1]}: not together with {named[0]}", param=named[1])
    return form if form is not None or not named else _beside(named[0], getattr(body, named[0]))


def feature(form: dict[str, Any] | None) -> frozenset[Feature]:
    """What a model must be able to do to keep to `form`."""
    if form is None:
        return frozenset()
    return frozenset({Feature.GRAMMAR if form["type"] in _LONGEST else Feature.SCHEMA})


def refuse_with_tools(form: dict[str, Any] | None) -> None:
    """A tool's call is written in the model's own form, which no grammar of a client's allows for.

    Raises:
        UnsupportedParameter: `form` is a grammar or a pattern.
    """
    if form is not None and form["type"] in _LONGEST:
        kind = form["type"]
        raise UnsupportedParameter(f"{kind}: not together with tools", param=kind)


def _beside(name: str, value: Any) -> dict[str, Any]:
    """A field beside `response_format`, as one."""
    if name in {"json_schema", "guided_json"}:
        return _schema_form(value)
    kind = "grammar" if name == "grammar" else "regex"
    return {"type": kind, kind: value}


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
