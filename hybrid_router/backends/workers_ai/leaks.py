"""Tool calls that a model writes as the text of its answer.

gpt-oss, when a call of a tool is forced, now and then writes the call into its text: as `{"name",
"arguments"}`, or the arguments alone.  A client that forced a call waits for one, so that is what it gets.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hybrid_router.backends.chunks import FunctionPiece, ToolPiece
from hybrid_router.core.call import Call

_NAMES, _ARGUMENTS = ("name", "tool", "recipient_name"), ("arguments", "parameters", "args")


def forced(call: Call) -> tuple[str, ...]:
    """Names of the tools of which one has to be called; none: the model may write text."""
    if not call.tools:
        return ()
    if call.tool_choice == "required":
        return tuple(str(tool["function"]["name"]) for tool in call.tools if "function" in tool)
    match call.tool_choice:
        case {"type": "function", "function": {"name": str(name)}}:
            return (name,)
    return ()


class Leak:
    """Keeps text back for as long as it may be a call.

    Args:
        tools: names of those that may be called.
    """

    def __init__(self, tools: tuple[str, ...]) -> None:
        self._tools = tools
        self._held: list[str] = []
        self._begun = False  # with what a call begins with
        self._watches = True

    def feed(self, text: str) -> str:
        """What of the next text is none of a call."""
        if not self._watches:
            return text
        self._held.append(text)
        if not self._begun and (begun := "".join(self._held).lstrip()):
            self._begun = begun.startswith("{")
            return "" if self._begun else self.flush()
        return ""

    def flush(self) -> str:
        """What was kept back, now that it is text."""
        held = "".join(self._held)
        self._held.clear()
        self._watches = False
        return held

    def call(self) -> ToolPiece | None:
        """The call that was kept back, if it is one: it is text no longer."""
        try:
            written = msgspec.json.decode("".join(self._held))
        except (ValueError, RecursionError):
            return None
        found = self._called(written)
        if found is not None:
            self._held.clear()
        return found

    def _called(self, written: Any) -> ToolPiece | None:
        if not isinstance(written, dict):
            return None
        inner = written.get("function")
        named = inner if isinstance(inner, dict) else written
        name = next((named[key] for key in _NAMES if isinstance(named.get(key), str)), None)
        arguments = next((named[key] for key in _ARGUMENTS if key in named), None)
        if arguments is not None and name is not None:
            return _piece(name.removeprefix("functions."), arguments, self._tools)
        return _piece(self._tools[0], written, self._tools) if len(self._tools) == 1 else None


def _piece(name: str, arguments: Any, tools: tuple[str, ...]) -> ToolPiece | None:
    """A call of `name`, if that is one of the tools and the arguments are such."""
    if name not in tools or not isinstance(arguments, dict | str):
        return None
    return ToolPiece(function=FunctionPiece(name=name, arguments=arguments))
