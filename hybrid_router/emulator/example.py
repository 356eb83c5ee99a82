"""A value that fits a JSON Schema: arguments of an emulated tool call, answers in JSON mode."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_MAX_DEPTH = 12
_CHOICE = re.compile(r"\((\w[\w-]*)\|")


def value_for(schema: Any, root: Any = None, depth: int = 0) -> Any:
    """The simplest value that `schema` accepts, always the same.

    Follows `const`, `enum`, `default`, local `$ref`, the first of `anyOf`/`oneOf`/`allOf`, types, required
    properties, bounds of strings, numbers, arrays and objects, and patterns that are a choice of words; other
    keywords are not looked at.
    """
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return {} if depth <= _MAX_DEPTH else None
    root = schema if root is None else root
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    inner = _inner(schema, root)
    if inner is not None:
        return value_for(inner, root, depth + 1)
    return _typed(schema, root, depth)


def _inner(schema: Mapping[str, Any], root: Any) -> Any:
    """The schema that stands in for this one, if any."""
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        found = root
        for part in reference.lstrip("#/").split("/"):
            found = found.get(part.replace("~1", "/").replace("~0", "~"), {}) if part else found
        return found
    return next((schema[key][0] for key in ("anyOf", "oneOf", "allOf") if schema.get(key)), None)


def _typed(schema: Mapping[str, Any], root: Any, depth: int) -> Any:
    """A value of the schema's (first) type."""
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return _object(schema, root, depth)
    if kind == "array":
        item = value_for(schema.get("items", {"type": "string"}), root, depth + 1)
        return [item] * max(1, schema.get("minItems", 1))
    if kind in ("integer", "number"):
        return _number(schema, kind)
    if kind == "string":
        text = _word(schema.get("pattern", "")).ljust(schema.get("minLength", 0), "x")
        return text[: schema.get("maxLength", len(text))]
    return True if kind == "boolean" else None


def _word(pattern: str) -> str:
    """The first of the words that a pattern chooses from, `^(one|two)$`; others are not understood."""
    found = _CHOICE.search(pattern)
    return found[1] if found else "text"


def _object(schema: Mapping[str, Any], root: Any, depth: int) -> dict[str, Any]:
    """An object with the required properties; with all, if none is required."""
    properties = schema.get("properties", {})
    names = [*(schema.get("required") or properties)]
    made = {name: value_for(properties.get(name, {"type": "string"}), root, depth + 1) for name in names}
    others = schema.get("additionalProperties", {"type": "string"})
    for place in range(len(made), schema.get("minProperties", 0)):
        made[f"name{place}"] = value_for(others, root, depth + 1)
    return made


def _number(schema: Mapping[str, Any], kind: str) -> float:
    """The smallest allowed number, or the usual one."""
    usual: float = 1 if kind == "integer" else 1.5
    if "minimum" in schema:
        usual = max(usual, schema["minimum"])
    if "exclusiveMinimum" in schema:
        usual = max(usual, schema["exclusiveMinimum"] + 1)
    return min(usual, schema["maximum"]) if "maximum" in schema else usual
