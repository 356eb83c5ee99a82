"""What readers of a model's answer write to: text, reasoning, tool calls, as events."""

from __future__ import annotations

from collections.abc import Callable

from hybrid_router.core import ids
from hybrid_router.core.event import Event, Reasoning, Text, ToolFragment
from hybrid_router.engines.llama.chat.source import SPACE, Source
from hybrid_router.engines.llama.chat.tools import Tools


class Speech:
    """Text on its way out.  White space is held back until it is known to stand between words."""

    def __init__(self, emit: Callable[[str], None], *, trimmed: bool) -> None:
        """`trimmed`: what it begins with is white space of the format."""
        self._emit = emit
        self._trimmed = trimmed
        self._gap = ""
        self.begun = False

    def say(self, text: str) -> None:
        """Take text."""
        if self._trimmed and not self.begun:
            text = text.lstrip(SPACE)
        kept = text.rstrip(SPACE)
        if kept:
            self._emit(self._gap + kept)
            self._gap, self.begun = "", True
        self._gap += text[len(kept) :]

    def trim(self) -> None:
        """The white space before and after this place belongs to the format."""
        self._gap, self._trimmed, self.begun = "", True, False

    def end(self) -> None:
        """Nothing follows: what is held back was said."""
        if self._gap:
            self._emit(self._gap)
        self._gap = ""


class Sink:
    """One choice's events.  Tool calls come one after another, id and name once, in the first fragment."""

    def __init__(self, index: int, tools: Tools, source: Source) -> None:
        self._index = index
        self._tools = tools
        self._source = source
        self._events: list[Event] = []
        self.calls_count = 0
        self.unseen_count = 0  # characters of text that the client has already

    def knows(self, name: str) -> bool:
        """Whether a tool is called so, and may be called now."""
        return name in self._tools.offered and not self.satisfied

    @property
    def tools(self) -> Tools:
        """The task's tools."""
        return self._tools

    def open(self, name: str) -> None:
        """A call begins: what was read so far will not be read as anything else."""
        self._events.append(
            ToolFragment(position=self.calls_count, id=ids.new("call_"), name=name, index=self._index)
        )
        self.calls_count += 1
        self.unseen_count = 0
        self._source.forget()

    def more(self, arguments: str) -> None:
        """Some of the last call's arguments."""
        if arguments:
            self._events.append(
                ToolFragment(position=self.calls_count - 1, arguments=arguments, index=self._index)
            )

    def text(self, text: str) -> None:
        """Something said."""
        known_count = min(self.unseen_count, len(text))
        self.unseen_count -= known_count
        if text[known_count:]:
            self._events.append(Text(text[known_count:], self._index))

    def reasoning(self, text: str) -> None:
        """Something thought."""
        self._events.append(Reasoning(text, self._index))

    @property
    def satisfied(self) -> bool:
        """Whether the answer holds as many calls as it may."""
        return self.calls_count > 0 and not self._tools.many

    def gathered(self) -> list[Event]:
        """The events since the last time; neighbours of one kind as one."""
        events, self._events = self._events, []
        return _joined(events)


def _joined(events: list[Event]) -> list[Event]:
    joined: list[Event] = []
    for event in events:
        last = joined[-1] if joined else None
        match last, event:
            case Text(), Text():
                joined[-1] = Text(last.text + event.text, event.index)
            case Reasoning(), Reasoning():
                joined[-1] = Reasoning(last.text + event.text, event.index)
            case ToolFragment(), ToolFragment() if last.name is None and last.position == event.position:
                joined[-1] = ToolFragment(
                    last.position, arguments=last.arguments + event.arguments, index=event.index
                )
            case _:
                joined.append(event)
    return joined
