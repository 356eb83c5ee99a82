"""Tool declarations as classic models' schemas demand them."""

from __future__ import annotations

from typing import Any


def described(tool: dict[str, Any]) -> dict[str, Any]:
    """`tool` with what OpenAI leaves open and classic models require: descriptions and parameters.

    An empty description says as much as a missing one; without it the call would be refused (5006).
    """
    function = tool.get("function")
    if isinstance(function, dict):
        return {**tool, "type": "function", "function": _complete(function)}
    return _complete(tool)


def _complete(function: dict[str, Any]) -> dict[str, Any]:
    parameters = function.get("parameters")
    if not isinstance(parameters, dict):
        parameters = {}
    properties = parameters.get("properties")
    if not isinstance(properties, dict):
        properties = {}
    return {
        "description": "",
        **function,
        "parameters": {
            "type": "object",
            **parameters,
            "properties": {name: _property(schema) for name, schema in properties.items()},
        },
    }


def _property(schema: Any) -> Any:
    return {"description": "", **schema} if isinstance(schema, dict) else schema
