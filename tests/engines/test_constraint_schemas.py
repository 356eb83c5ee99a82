"""What of JSON Schema is refused by name, and what may stay out because it asserts nothing."""

from __future__ import annotations

from typing import Any

import pytest

from hybrid_router.engines.llama.schemas import enforceable, unrolled_count
from hybrid_router.engines.task import TaskRefused


def refusal(schema: Any) -> str:
    with pytest.raises(TaskRefused) as caught:
        enforceable(schema)
    assert caught.value.by_call
    return caught.value.message


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("not", {"type": "null"}),
        ("if", {"type": "string"}),
        ("uniqueItems", True),
        ("contains", {"const": 1}),
        ("propertyNames", {"pattern": "^x"}),
        ("dependentRequired", {"a": ["b"]}),
        ("dependentSchemas", {"a": {}}),
        ("dependencies", {"a": ["b"]}),
        ("unevaluatedProperties", False),
        ("unevaluatedItems", False),
        ("$dynamicRef", "#node"),
        ("$recursiveRef", "#"),
        ("minProperties", 3),
        ("format", "idn-email"),
        ("$ref", "https://example.com/schema.json"),
        ("$ref", "#anchor"),
        ("$id", "https://example.com/other.json"),
        ("multipleOf", 999_983),
    ],
)
def test_what_is_not_enforced_is_refused_by_place_and_name(keyword: str, value: Any) -> None:
    """The refusal names the keyword and a JSON pointer to the schema that has it, wherever that is."""
    inner = {keyword: value, "then": {}}
    for schema, place in (
        ({"properties": {"a/b": inner}}, "#/properties/a~1b"),
        ({"anyOf": [{}, {"items": inner}]}, "#/anyOf/1/items"),
        ({"$ref": "#/$defs/it", "$defs": {"it": inner}}, "#/$defs/it"),
        (
            {"additionalProperties": {"$ref": "#/components/it"}, "components": {"it": inner}},
            "#/components/it",
        ),
    ):
        message = refusal(schema)
        assert f"`{keyword}`" in message
        assert place in message


def test_a_pattern_too_long_is_refused_by_place() -> None:
    """Counted repetitions are written out inside the library, so they are bounded before."""
    assert "#/items" in refusal({"items": {"pattern": "(a{100}){100}"}})
    assert "#/items" in refusal({"items": {"patternProperties": {"x{9000}": {}}}})


@pytest.mark.parametrize(
    "idle",
    [
        {"uniqueItems": False},
        {"then": {"const": 1}, "else": {"not": {}}},
        {"if": {"const": 1}},
        {"propertyNames": True},
        {"dependentRequired": {}},
        {"unevaluatedProperties": {}},
        {"not": False},
        {"format": "int32"},
        {
            "title": "t",
            "description": "d",
            "default": 1,
            "examples": [1],
            "$comment": "c",
            "deprecated": True,
        },
        {"readOnly": True, "writeOnly": True, "contentEncoding": "base64", "contentMediaType": "text/plain"},
        {"x-order": 3, "nullable": True, "discriminator": {"propertyName": "k"}, "xml": {}},
        {"x-guidance": {"lenient": True}},
        {"$schema": "https://example.com/dialect", "$id": "urn:root", "$dynamicAnchor": "a", "$anchor": "b"},
        {"$defs": {"unused": {"not": {}}}},
        {"required": ["a", "b"], "minProperties": 2},
    ],
)
def test_what_asserts_nothing_is_left_out(idle: dict[str, Any]) -> None:
    """Annotations and keywords without effect neither refuse a schema nor reach the library."""
    kept = enforceable({"type": "object", **idle})
    assert kept == {"type": "object"} | {key: idle[key] for key in idle if key == "required"}


def test_a_property_may_be_called_like_a_keyword() -> None:
    """Names of properties are no keywords, and values of constants are no schemas."""
    schema = {"properties": {"not": {"type": "null"}, "$ref": {"const": {"not": {}, "title": 1}}}}
    assert enforceable(schema) == schema


def test_references_keep_what_they_mean() -> None:
    """Every place that is referred to becomes a definition, also such that refer to each other."""
    kept = enforceable(
        {
            "properties": {"a": {"$ref": "#/properties/b~1c"}, "b/c": {"items": {"$ref": "#/defs/0"}}},
            "defs": [{"anyOf": [{"$ref": "#"}, {"$ref": "#/defs/0"}, {"$ref": "#/properties/b%7E1c"}]}],
        }
    )
    names = {kept["properties"]["a"]["$ref"], kept["properties"]["b/c"]["items"]["$ref"]}
    assert names == {"#/$defs/d0", "#/$defs/d1"}
    assert kept["$defs"]["d1"]["anyOf"][0] == {"$ref": "#"}
    assert kept["$defs"]["d0"] == kept["$defs"]["d2"] == kept["properties"]["b/c"]
    assert "no such place" in refusal({"$ref": "#/$defs/missing"})


def test_schemas_are_bounded() -> None:
    """Nesting and size are refused with words before they can hurt."""
    deep: dict[str, Any] = {}
    for _ in range(60):
        deep = {"items": deep}
    assert "nested more than" in refusal(deep)
    assert "more than 5000" in refusal({"anyOf": [{}] * 5001})
    assert "allows nothing" in refusal(False)
    assert "JSON object" in refusal([{}])
    assert enforceable(True) == {}


def test_several_steps_multiply() -> None:
    """What `multipleOf` costs is the product of those that share no factor, so the product is bounded."""
    assert enforceable({"allOf": [{"multipleOf": 0.01}, {"multipleOf": 5000}, {"multipleOf": 97}]})
    assert "`multipleOf` 103" in refusal({"allOf": [{"multipleOf": 101}, {"multipleOf": 103}]})


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("", 0),
        ("abc", 3),
        (r"\d{4}-\d{2}", 7),
        ("a{12}{3}", 36),
        ("(ab){10}", 20),
        ("((ab){10}c){3}", 63),
        ("[^]{9}]{5}", 5),
        (r"\({3}", 3),
        ("a{,5}", 5),
        ("a{2,}", 2),
        ("a{b}", 4),
        ("[a", 1),
    ],
)
def test_repetitions_are_counted_as_written_out(pattern: str, count: int) -> None:
    """The size of an expression is that of its automaton, about."""
    assert unrolled_count(pattern) == count
