"""Cut the schemas that the contract tests need out of OpenAI's published specification.

    python scripts/make_openai_fixture.py path/to/openapi.yaml

Writes tests/contract/openai.json: JSON Schema 2020-12, each kept schema under `$defs`, with the
source's version and this day's date.  The specification is not strictly valid; what is set right is
named below, and so is the one place where OpenAI's own service departs from it.
"""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

import yaml

KEPT = (
    "CreateChatCompletionRequest",
    "CreateChatCompletionResponse",
    "CreateChatCompletionStreamResponse",
    "CreateCompletionRequest",
    "CreateCompletionResponse",
    "CreateEmbeddingRequest",
    "CreateEmbeddingResponse",
    "ListModelsResponse",
    "Model",
    "ErrorResponse",
)
_REFERENCE = "#/components/schemas/"
_FIXTURE = Path(__file__).parent.parent / "tests" / "contract" / "openai.json"
# Prose and examples are of no use to a validator; `discriminator` is OpenAPI's own.
_DROPPED = frozenset(
    {"description", "example", "examples", "title", "discriminator", "externalDocs", "default"}
)
_BOUNDS = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}


def main() -> None:
    """Read the specification, write the fixture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="OpenAI's openapi.yaml")
    source = yaml.load(parser.parse_args().source.read_text(), yaml.CSafeLoader)
    fixture = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": (
            f"From OpenAI's OpenAPI specification {source['info']['version']}, "
            f"made {datetime.datetime.now(datetime.UTC).date()} by scripts/make_openai_fixture.py; "
            "licence: openai.LICENSE"
        ),
        "$defs": amended(gathered(source["components"]["schemas"])),
    }
    _FIXTURE.write_text(json.dumps(fixture, indent=1, sort_keys=True) + "\n")


def gathered(schemas: dict[str, Any]) -> dict[str, Any]:
    """The kept schemas and all that they refer to."""
    found: dict[str, Any] = {}
    wanted = list(KEPT)
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = normalised(schemas[name])
            wanted += [part.rpartition("/")[2] for part in references(found[name])]
    return found


def references(node: Any) -> list[str]:
    """Every `$ref` below a node."""
    if isinstance(node, list):
        return [found for item in node for found in references(item)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
    return own + [found for item in node.values() for found in references(item)]


def normalised(node: Any) -> Any:
    """A schema as JSON Schema 2020-12 has it."""
    if isinstance(node, list):
        return [normalised(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {}
    for key, value in node.items():
        if key == "properties":
            out[key] = {name: normalised(schema) for name, schema in value.items()}
        elif key not in _DROPPED and not key.startswith("x-"):
            out[key] = normalised(value)
    _set_right(out)
    return out


def _set_right(schema: dict[str, Any]) -> None:
    """What OpenAPI 3.0 wrote otherwise, and one duplicated list."""
    if isinstance(schema.get("$ref"), str):
        schema["$ref"] = schema["$ref"].replace(_REFERENCE, "#/$defs/")
    if isinstance(schema.get("required"), list):
        schema["required"] = sorted(set(schema["required"]))
    for exclusive, inclusive in _BOUNDS.items():
        if isinstance(schema.get(exclusive), bool) and schema.pop(exclusive):
            schema[exclusive] = schema.pop(inclusive)
    schema.pop("$recursiveAnchor", None)
    if schema.pop("nullable", False):
        _allow_null(schema)


def _allow_null(schema: dict[str, Any]) -> None:
    """`nullable: true` in today's words."""
    if isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    else:
        inner = dict(schema)
        schema.clear()
        schema["anyOf"] = [inner, {"type": "null"}]


def amended(schemas: dict[str, Any]) -> dict[str, Any]:
    """The two knowing departures.

    The first token of an echoed prompt has no probability: there OpenAI's service writes null among the
    numbers of `logprobs`.

    A streamed `text_completion` has no finish reason until its last chunk.  The specification has no schema
    for such chunks but the whole reply's, which demands one; OpenAI's service sends null, and clients rely
    on it.  Its `usage` may be null too, which only prose says.
    """
    choice = schemas["CreateCompletionResponse"]["properties"]["choices"]["items"]["properties"]
    columns = choice["logprobs"]["anyOf"][0]["properties"]
    for name in ("token_logprobs", "top_logprobs"):
        columns[name]["items"]["type"] = [columns[name]["items"]["type"], "null"]
    chunk = json.loads(json.dumps(schemas["CreateCompletionResponse"]))
    reason = chunk["properties"]["choices"]["items"]["properties"]["finish_reason"]
    reason.update(type=["string", "null"], enum=[*reason["enum"], None])
    usage = chunk["properties"]["usage"]
    chunk["properties"]["usage"] = {"anyOf": [usage, {"type": "null"}]}
    schemas["StreamedCompletion"] = chunk
    return schemas


if __name__ == "__main__":
    main()
