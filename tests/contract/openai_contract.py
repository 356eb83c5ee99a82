"""OpenAI's published schemas as validators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

_FIXTURE: dict[str, Any] = json.loads((Path(__file__).parent / "openai.json").read_text())


def check(name: str, document: Any) -> None:
    """Fail if `document` is not what schema `name` says."""
    schema = {"$defs": _FIXTURE["$defs"], "$ref": f"#/$defs/{name}"}
    errors = [
        f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(document)
    ]
    assert not errors, f"not a {name}: {errors}"


def events(stream: bytes) -> list[Any]:
    """The `data:` documents of a stream, `[DONE]` as a text.  Anything between them is an error."""
    *lines, rest = stream.decode().split("\n\n")
    assert rest == ""
    assert all(line.startswith("data: ") and "\n" not in line for line in lines)
    return [line[6:] if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]
