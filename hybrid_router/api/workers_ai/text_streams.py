"""A classic model's stream: events into the documents of `data:` lines.  No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hybrid_router.api.workers_ai.text_documents import Answer, Choice, classic_tools, usage_of
from hybrid_router.core.event import Event, Finish, Reasoning, Text, ToolFragment, Usage

Document = dict[str, Any]
_PADDING = "abcdefghijklmnopqrstuvwxyz0123456789"


class ClassicStream:
    """`{"response", "p"}` lines and one with usage.  Tool calls come whole, in a line of their own."""

    def __init__(self, *, with_tools: bool) -> None:
        self._with_tools = with_tools
        self._tools = Answer()  # their fragments, until they are whole
        self._count = 0

    def chunks(self, event: Event) -> Iterator[Document]:
        """A line for each text; reasoning is written as text, as these models do."""
        if isinstance(event, ToolFragment):
            self._tools.take([event])
        elif isinstance(event, Text | Reasoning):
            yield self._line(event.text, [])
        elif isinstance(event, Finish):
            tools = classic_tools(self._tools.choices.get(0, Choice()))
            if tools:
                yield self._line("", tools)

    def ending(self, usage: Usage, neurons: float) -> Iterator[Document]:
        """The usage line."""
        yield {"response": "", "usage": usage_of(usage)}

    def _line(self, text: str, tools: list[Document]) -> Document:
        """The padding's length varies from line to line, always in the same way."""
        self._count += 1
        padding = _PADDING[: 1 + self._count * 7 % len(_PADDING)]
        if self._with_tools:
            return {"response": text, "tool_calls": tools, "p": padding}
        return {"response": text, "p": padding}
