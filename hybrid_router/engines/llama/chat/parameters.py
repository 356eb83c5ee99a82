"""What arguments a grammar insists on: all of a strict tool's schema, of others what can be enforced."""

from __future__ import annotations

import json
import re
from typing import Any

from hybrid_router.engines.llama.chat.tools import Tool
from hybrid_router.engines.llama.schemas import enforceable
from hybrid_router.engines.task import TaskRefused

# As models were trained to write JSON; and none of them gets lost in white space, or spells a key twice.
_WRITING = {
    "item_separator": ", ",
    "key_separator": ": ",
    "whitespace_flexible": False,
    "coerce_one_of": False,
    "lenient": False,
    "json_allowed_escapes": '"\\bfnrt',
}
_BEYOND_REGULAR = re.compile(r"\(\?[=!<]|\\[1-9bB]")  # llguidance has no looking around and no references


def arguments_of(tool: Tool) -> str:
    """An expression for a tool's arguments.

    Raises:
        TaskRefused: the tool is strict, and something in its schema cannot be enforced.
    """
    if tool.strict or _holds(tool.parameters):
        return inlined(tool.parameters)
    properties = tool.parameters.get("properties")
    named = properties if isinstance(properties, dict) else {}
    lax = {
        "type": "object",
        "properties": {name: _lax(tool.schema_of(name)) for name in named},
        "required": [name for name in named if name in tool.required],
    }
    return _expression(lax)


def value_of(tool: Tool, name: str) -> str:
    """An expression for one argument's value.

    Raises:
        TaskRefused: as `arguments_of`.
    """
    schema = tool.schema_of(name)
    return inlined(schema) if tool.strict or _holds(schema) else _expression({})


def inlined(schema: Any) -> str:
    """An expression for JSON of a schema.

    Raises:
        TaskRefused: something in it cannot be enforced.
    """
    return _expression(enforceable(schema))


def _expression(schema: dict[str, Any]) -> str:
    return f"%json {json.dumps({**schema, 'x-guidance': _WRITING}, ensure_ascii=False)}"


def _lax(schema: dict[str, Any]) -> dict[str, Any]:
    """A part's schema if it can be enforced and refers to nothing outside, else any value."""
    if not _holds(schema):
        return {}
    found = enforceable(schema)
    return {} if "$defs" in found else found


def _holds(schema: dict[str, Any]) -> bool:
    """Whether all of a schema can be enforced."""
    try:
        text = json.dumps(enforceable(schema))
    except TaskRefused:
        return False
    return _BEYOND_REGULAR.search(text.replace("\\\\", "\\")) is None
