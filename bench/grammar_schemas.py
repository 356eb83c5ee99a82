"""Schemas as people write them: answers to extract, arguments of tools.  The same ones each time."""

from __future__ import annotations

import random
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

_THINGS = (
    "invoice",
    "contact",
    "event",
    "recipe",
    "ticket",
    "product",
    "review",
    "flight",
    "patient",
    "repository",
)
_VERBS = ("search", "create", "update", "get", "send", "schedule", "translate", "convert", "book", "list")
_TEXTS = ("title", "summary", "name", "description", "city", "country", "author", "notes", "query", "street")
_COUNTS = ("quantity", "page", "limit", "priority", "rating", "year", "port", "age")
_AMOUNTS = ("price", "total", "latitude", "longitude", "temperature", "confidence", "weight")
_CHOICES = {
    "status": ["open", "in_progress", "closed"],
    "unit": ["celsius", "fahrenheit"],
    "currency": ["EUR", "USD", "GBP", "JPY"],
    "sentiment": ["positive", "neutral", "negative"],
    "language": ["de", "en", "fr", "es"],
}
_FORMATS = {"date": "date", "created_at": "date-time", "email": "email", "id": "uuid", "website": "uri"}
_PATTERNS = {
    "sku": "^[A-Z]{3}-[0-9]{4}$",
    "phone": "^\\+?[0-9]{6,14}$",
    "zip": "^[0-9]{5}$",
    "slug": "^[a-z0-9-]+$",
}


def realistic_schemas(count: int, seed: int = 7) -> list[Json]:
    """So many; half are a tool's arguments, half an answer's form."""
    dice = random.Random(seed)  # noqa: S311 - the same schemas each time
    return [_tool(dice) if i % 2 else _answer(dice) for i in range(count)]


def _happens(dice: random.Random, share: float) -> bool:
    return dice.random() < share


def _tool(dice: random.Random) -> Json:
    made = _record(dice, 1, dice.randint(1, 5))
    return {"title": f"{dice.choice(_VERBS)}_{dice.choice(_THINGS)}", **made}


def _answer(dice: random.Random) -> Json:
    made = _record(dice, 2, dice.randint(2, 8))
    if _happens(dice, 0.25):  # as class libraries write nested models
        made["properties"]["owner"] = {"$ref": "#/$defs/Person"}
        made["$defs"] = {"Person": _record(dice, 0, 3)}
    if _happens(dice, 0.1):  # a tree
        made["properties"]["children"] = {"type": "array", "items": {"$ref": "#"}, "maxItems": 3}
    return {"title": dice.choice(_THINGS).title(), **made}


def _record(dice: random.Random, depth: int, count: int) -> Json:
    properties = dict(_property(dice, depth) for _ in range(count))
    required = list(properties) if _happens(dice, 0.6) else [n for n in properties if _happens(dice, 0.5)]
    made: Json = {"type": "object", "properties": properties, "required": required}
    if _happens(dice, 0.7):
        made["additionalProperties"] = False
    return made


def _property(dice: random.Random, depth: int) -> tuple[str, Json]:
    kinds = [_text, _text, _count, _amount, _choice, _format, _pattern, _flag]
    if depth and _happens(dice, 0.35):
        return _nested(dice, depth - 1)
    name, schema = dice.choice(kinds)(dice)
    if _happens(dice, 0.15):
        return name, {"anyOf": [schema, {"type": "null"}], "default": None}
    return name, {**schema, "description": f"The {name.replace('_', ' ')}."}


def _nested(dice: random.Random, depth: int) -> tuple[str, Json]:
    match dice.randint(0, 3):
        case 0:
            return "address", _record(dice, depth, 3)
        case 1:
            return "items", {"type": "array", "items": _record(dice, depth, 3), "minItems": 1, "maxItems": 5}
        case 2:
            return "tags", {"type": "array", "items": {"type": "string", "maxLength": 20}, "maxItems": 10}
        case _:
            options = [
                {
                    "type": "object",
                    "properties": {"kind": {"const": k}, k: _count(dice)[1]},
                    "required": ["kind", k],
                }
                for k in ("card", "transfer")
            ]
            return "payment", {"oneOf": options}


def _text(dice: random.Random) -> tuple[str, Json]:
    limits: Json = {"maxLength": dice.choice((40, 80, 200))} if _happens(dice, 0.3) else {}
    return dice.choice(_TEXTS), {"type": "string", **limits}


def _count(dice: random.Random) -> tuple[str, Json]:
    limits: Json = {"minimum": 1, "maximum": dice.choice((5, 10, 100, 65535))} if _happens(dice, 0.5) else {}
    return dice.choice(_COUNTS), {"type": "integer", **limits}


def _amount(dice: random.Random) -> tuple[str, Json]:
    limits: Json = {"minimum": dice.choice((-90, 0)), "maximum": 90} if _happens(dice, 0.4) else {}
    return dice.choice(_AMOUNTS), {"type": "number", **limits}


def _choice(dice: random.Random) -> tuple[str, Json]:
    name = dice.choice(sorted(_CHOICES))
    return name, {"type": "string", "enum": _CHOICES[name]}


def _format(dice: random.Random) -> tuple[str, Json]:
    name = dice.choice(sorted(_FORMATS))
    return name, {"type": "string", "format": _FORMATS[name]}


def _pattern(dice: random.Random) -> tuple[str, Json]:
    name = dice.choice(sorted(_PATTERNS))
    return name, {"type": "string", "pattern": _PATTERNS[name]}


def _flag(dice: random.Random) -> tuple[str, Json]:
    return dice.choice(("active", "urgent", "dry_run")), {"type": "boolean"}
