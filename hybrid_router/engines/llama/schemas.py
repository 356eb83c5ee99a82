"""JSON Schemas as far as they can be enforced: what cannot is refused by name, with its place.

llguidance 1.9 refuses most of what it cannot enforce, without saying where, and is silent about some of it.
Each keyword was tried with an instance that breaks it.  What remains holds, except that:

- JSON lets a key come twice, and additional keys may: `minProperties` beyond what repeated keys can feign is
  refused here.
- One key may be written in several ways (`"a"`, `"\\u0061"`); the engine forbids the second
  (`constraint.WRITING`), or a declared property could come twice, the second time of any type.

`format` asserts, where llguidance knows the format.  Formats that JSON Schema defines and llguidance does not
know are refused; others (`int32`, `password`) mean nothing to JSON Schema, so they are left out, as are
annotations.  `$ref` reaches into the same document only, by JSON pointer.

Source: JSON Schema 2020-12 (core, validation); llguidance's docs/json_schema.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any
from urllib.parse import unquote

from hybrid_router.engines.task import TaskRefused

ANY_OBJECT: Mapping[str, Any] = {"type": "object"}
MOST_SCHEMAS = 5000
MOST_UNROLLED = 5000
_DEPTH_COUNT = 50
_COUNTED = re.compile(r"\{\s*(?:(\d+)\s*(?:,\s*(\d+)?)?|,\s*(\d+))\s*\}")
_MOST_REMAINDERS = 10_000  # states of the automaton that counts; 30,000 take 0.2 s, a million 10 s

MAPS = ("properties", "patternProperties")
LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
ONES = ("additionalProperties", "items", "additionalItems")
PLAIN = frozenset(
    {
        "type",
        "enum",
        "const",
        "required",
        "minProperties",
        "maxProperties",
        "minItems",
        "maxItems",
        "minLength",
        "maxLength",
        "pattern",
        "format",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
    }
)
# Keywords that assert and are not enforced, with values that assert nothing.
NOT_ENFORCED: Mapping[str, tuple[Any, ...]] = {
    "not": (False,),
    "if": (),
    "uniqueItems": (False,),
    "contains": (),
    "propertyNames": (True, {}),
    "dependentRequired": ({},),
    "dependentSchemas": ({},),
    "dependencies": ({},),
    "unevaluatedProperties": (True, {}),
    "unevaluatedItems": (True, {}),
    "$dynamicRef": (),
    "$recursiveRef": (),
}
FORMATS = frozenset(
    {"date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"}
)
FORMATS_NOT_ENFORCED = frozenset(
    {
        "idn-email",
        "idn-hostname",
        "uri-reference",
        "iri",
        "iri-reference",
        "uri-template",
        "json-pointer",
        "relative-json-pointer",
        "regex",
    }
)


def refuse(message: str) -> TaskRefused:
    """The call's own fault."""
    return TaskRefused("invalid_request_error", message, by_call=True)


def enforceable(schema: Any) -> dict[str, Any]:
    """The schema as llguidance can enforce all of it: no annotations, nothing that asserts nothing, and only
    the definitions that are referred to.

    Raises:
        TaskRefused: something in it is not enforced; names keyword and place.
    """
    return _Reading(schema).whole()


def unrolled_count(pattern: str) -> int:
    """How long a regular expression is with its counted repetitions written out, about."""
    total, at, closed = [0], 0, 1
    while at < len(pattern):
        character, step = pattern[at], 1
        if character == "(":
            total.append(0)
        elif character == ")" and len(total) > 1:
            closed = total.pop()
            total[-1] += closed
        elif character == "{" and (found := _COUNTED.match(pattern, at)):
            times = max(int(number) for number in found.groups() if number)
            total[-1] += closed * (times - 1)
            closed *= times
            step = len(found[0])
        else:
            step = _atom_length(pattern, at)
            closed = 1
            total[-1] += 1
        at += step
    return sum(total)


def _atom_length(pattern: str, at: int) -> int:
    """Characters of what stands at `at`: a class, an escape, or one character."""
    if pattern[at] == "\\":
        return 2
    if pattern[at] != "[":
        return 1
    end = at + (3 if pattern.startswith("[^", at) else 2)  # a bracket that comes first is a character
    while end < len(pattern) and pattern[end] != "]":
        end += 2 if pattern[end] == "\\" else 1
    return end + 1 - at


@dataclass
class _Reading:
    """One document.  `names` are the places that are referred to, and what they are called in the result."""

    document: Any
    names: dict[str, str] = field(default_factory=dict)
    count: int = 0
    remainders: int = 1

    def whole(self) -> dict[str, Any]:
        root = self._schema(self.document, "#", 0)
        if not isinstance(root, dict):
            if root is True:
                return {}
            raise refuse("the schema at # allows nothing" if root is False else "a schema is a JSON object")
        definitions: dict[str, Any] = {}
        while len(definitions) < len(self.names):  # definitions refer to others
            for place, name in list(self.names.items()):
                if name not in definitions:
                    definitions[name] = self._schema(self._at(place), place, 0)
        return {**root, "$defs": definitions} if definitions else root

    def _schema(self, schema: Any, place: str, depth: int) -> Any:
        """One schema and those within."""
        if not isinstance(schema, dict):
            return schema  # true, false, or wrong, which llguidance says
        self.count += 1
        if self.count > MOST_SCHEMAS:
            raise refuse(f"the schema holds more than {MOST_SCHEMAS} schemas")
        if depth > _DEPTH_COUNT:
            raise refuse(f"the schema is nested more than {_DEPTH_COUNT} deep at {place}")
        _refuse_what_is_not_enforced(schema, place)
        kept = {key: value for key, value in schema.items() if key in PLAIN}
        self._within(schema, kept, place, depth + 1)
        if isinstance(reference := schema.get("$ref"), str):
            kept["$ref"] = self._reference(reference, place)
        self._check(kept, place)
        return kept

    def _within(self, schema: dict[str, Any], kept: dict[str, Any], place: str, depth: int) -> None:
        """The schemas that this one is made of."""
        for key in ONES:
            if key in schema:
                kept[key] = self._one_or_more(schema[key], f"{place}/{key}", depth)
        for key in LISTS:
            if key in schema:
                kept[key] = self._one_or_more(schema[key], f"{place}/{key}", depth)
        for key in MAPS:
            if key in schema and isinstance(inside := schema[key], dict):
                kept[key] = {
                    name: self._schema(value, f"{place}/{key}/{_escaped(name)}", depth)
                    for name, value in inside.items()
                }
            elif key in schema:
                kept[key] = schema[key]

    def _one_or_more(self, inside: Any, place: str, depth: int) -> Any:
        if isinstance(inside, list):
            return [self._schema(value, f"{place}/{i}", depth) for i, value in enumerate(inside)]
        return self._schema(inside, place, depth)

    def _reference(self, reference: str, place: str) -> str:
        if reference == "#":
            return reference
        if not reference.startswith("#/"):
            raise refuse(
                f"`$ref` at {place} is {reference!r}: only places within the schema can be referred to (#/…)"
            )
        return "#/$defs/" + self.names.setdefault(reference, f"d{len(self.names)}")

    def _at(self, place: str) -> Any:
        """What a JSON pointer points to (RFC 6901)."""
        found = self.document
        for step in place[2:].split("/"):
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and name in found:
                found = found[name]
            elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            else:
                raise refuse(f"`$ref` {place}: there is no such place in the schema")
        return found

    def _check(self, kept: dict[str, Any], place: str) -> None:
        """Values that can be enforced in part only."""
        self._check_least_properties(kept, place)
        self._check_format(kept, place)
        for pattern in (kept.get("pattern"), *_keys(kept.get("patternProperties"))):
            if isinstance(pattern, str) and unrolled_count(pattern) > MOST_UNROLLED:
                raise refuse(f"the pattern at {place} is too long with its repetitions written out")
        step = kept.get("multipleOf")
        if isinstance(step, int | float) and step > 0:
            self._check_step(step, place)

    def _check_least_properties(self, kept: dict[str, Any], place: str) -> None:
        least, required = kept.get("minProperties"), kept.get("required", [])
        if not isinstance(least, int) or not isinstance(required, list):
            return
        if least <= len(set(map(str, required))):
            del kept["minProperties"]
        elif least > len(required) + 1 and kept.get("additionalProperties") is not False:
            raise refuse(
                f"`minProperties` at {place} is not enforced beyond the required properties and one more; "
                "name more of them in `required`"
            )

    def _check_format(self, kept: dict[str, Any], place: str) -> None:
        name = kept.get("format")
        if name in FORMATS_NOT_ENFORCED:
            raise refuse(
                f"`format` {name!r} at {place} is not enforced; leave it out, or say it as `pattern`"
            )
        if isinstance(name, str) and name not in FORMATS:
            del kept["format"]

    def _check_step(self, step: float, place: str) -> None:
        """Counting in tens is cheap, other remainders take a state each, and those of several multiply."""
        rest = Fraction(str(step)).numerator
        for cheap in (2, 5):
            while rest % cheap == 0:
                rest //= cheap
        self.remainders = math.lcm(self.remainders, rest)
        if self.remainders > _MOST_REMAINDERS:
            raise refuse(f"`multipleOf` {step} at {place} is too large to be enforced")


def _refuse_what_is_not_enforced(schema: dict[str, Any], place: str) -> None:
    for key, idle in NOT_ENFORCED.items():
        if key in schema and schema[key] not in idle:
            if key == "if" and "then" not in schema and "else" not in schema:
                continue
            raise refuse(
                f"`{key}` at {place} is not enforced on this model; leave it out, or say it another way"
            )
    identity = schema.get("$id", "")
    if place != "#" and isinstance(identity, str) and not identity.startswith("#") and identity:
        raise refuse(f"`$id` at {place}: a schema of its own within another is not supported")


def _keys(inside: Any) -> list[str]:
    return list(inside) if isinstance(inside, dict) else []


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
