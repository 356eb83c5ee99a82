"""The tools of a task: which there are, which must be called, what their arguments may be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from hybrid_router.engines.task import Task, TaskRefused

MOST_CALLS_COUNT = 8  # where more than one is allowed and the grammar says so
_NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}


@dataclass(frozen=True)
class Tool:
    """A function that the client offers.  `parameters` is a JSON Schema of an object."""

    name: str
    parameters: dict[str, Any]
    strict: bool = False

    def schema_of(self, name: str) -> dict[str, Any]:
        """The schema of one parameter; what it refers to is put with it."""
        properties = self.parameters.get("properties")
        schema = properties.get(name) if isinstance(properties, dict) else None
        if not isinstance(schema, dict):
            return {}
        shared = {key: self.parameters[key] for key in ("$defs", "definitions") if key in self.parameters}
        return {**schema, **shared}

    @property
    def required(self) -> frozenset[str]:
        """The parameters that must be given."""
        named = self.parameters.get("required")
        return frozenset(named) if isinstance(named, list) else frozenset()


@dataclass(frozen=True)
class Tools:
    """What a task says about tools.

    Attributes:
        offered: by name, in the client's order.
        choice: whether the answer may hold calls, or must.
        many: whether it may hold more than one.
        documents: the tools as templates expect them.
    """

    offered: dict[str, Tool] = field(default_factory=dict)
    choice: Literal["auto", "required"] = "auto"
    many: bool = True
    documents: tuple[dict[str, Any], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.offered)

    @property
    def strict(self) -> bool:
        """Whether arguments must be held to a schema even where no call is required."""
        return any(tool.strict for tool in self.offered.values())


def tools_of(task: Task) -> Tools:
    """The task's tools.

    Raises:
        TaskRefused: a tool is none, or the choice names one that is not there.
    """
    if not task.tools or task.tool_choice == "none":
        return Tools()
    documents = tuple(_document(tool) for tool in task.tools)
    offered = {tool.name: tool for tool in map(_tool, documents)}
    many = task.parallel_tool_calls is not False
    choice = task.tool_choice
    if choice in (None, "auto"):
        return Tools(offered, "auto", many, documents)
    if choice == "required":
        return Tools(offered, "required", many, documents)
    names, required = _named(choice)
    missing = [name for name in names if name not in offered]
    if missing or not names:
        raise _refused(f"tool_choice: no tool is named {', '.join(missing) or 'at all'}")
    chosen = {name: offered[name] for name in names}
    alone = choice.get("type") == "function"
    return Tools(chosen, "required" if required else "auto", many and not alone, documents)


def _named(choice: Any) -> tuple[list[str], bool]:
    """Which tools a choice names, and whether one of them must be called."""
    match choice:
        case {"type": "function", "function": {"name": str(name)}}:
            return [name], True
        case {"type": "allowed_tools", "allowed_tools": {"tools": list(tools), **rest}}:
            names = [str(tool.get("function", {}).get("name")) for tool in tools if isinstance(tool, dict)]
            return names, rest.get("mode") == "required"
    raise _refused("tool_choice: expected none, auto, required, a function or allowed_tools")


def _document(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool with all that templates take for granted."""
    function = tool.get("function")
    if tool.get("type", "function") != "function" or not isinstance(function, dict):
        raise _refused("tools: local models take tools of type function only")
    if not isinstance(function.get("name"), str) or not function["name"]:
        raise _refused("tools: each function needs a name")
    parameters = function.get("parameters")
    if not isinstance(parameters, dict) or not parameters:
        parameters = {"type": "object", "properties": {}}
    elif "type" not in parameters and "properties" in parameters:
        parameters = {"type": "object", **parameters}
    shown = {key: value for key, value in function.items() if key != "strict" and value is not None}
    described = {"name": function["name"], "description": "", **shown, "parameters": parameters}
    return {"type": "function", "function": described, "strict": function.get("strict") is True}


def _tool(document: dict[str, Any]) -> Tool:
    function, strict = document["function"], document.pop("strict")
    parameters = function["parameters"]
    bare = parameters.get("type") == "object" and not set(parameters) - {"type", "properties"}
    empty = bare and not parameters.get("properties")
    return Tool(function["name"], _NO_PARAMETERS if empty else parameters, strict)


def _refused(message: str) -> TaskRefused:
    return TaskRefused("invalid_request_error", message, by_call=True)
