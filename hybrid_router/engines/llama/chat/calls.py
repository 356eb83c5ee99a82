"""Reading tool calls, behind the marker that begins them.

A reader returns whether there was a call.  Until it has seen a known name and the beginning of the arguments
it lets nothing out, so what only looked like a call can be said as text.  From then on arguments go out as
they come; should they turn out not to be JSON, they are what the model wrote.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from hybrid_router.engines.llama.chat.json_text import parsed, read_parsed, read_value
from hybrid_router.engines.llama.chat.reader import Sink
from hybrid_router.engines.llama.chat.source import Markers, Reading, Source


class Calls(Protocol):
    """Reads the calls of one format."""

    def read(self, source: Source, sink: Sink) -> Reading[bool]:
        """Read the calls behind a marker.  Returns whether there was one."""
        ...


_OTHER_KEYS = ("type", "id", "tool_call_id")


@dataclass(frozen=True)
class Objects:
    """Calls as JSON objects that hold name and arguments, one or a list of them.

    Attributes:
        closers: what may stand behind them.
        names, arguments: the keys.
        between: what stands between calls outside a list.
        sure: the marker was one of calls.  Else an object without arguments, or with keys of its own, is an
            answer in JSON.
    """

    closers: tuple[str, ...] = ()
    names: tuple[str, ...] = ("name",)
    arguments: tuple[str, ...] = ("arguments", "parameters")
    between: tuple[str, ...] = ()
    sure: bool = True

    def read(self, source: Source, sink: Sink) -> Reading[bool]:
        """As `Calls.read`."""
        yield from source.space()
        listed = yield from source.found("[")
        called = False
        while True:
            yield from source.space()
            if not (yield from self._object(source, sink)):
                break
            called = True
            mark = source.mark
            yield from source.space()
            if (yield from source.found(*((",",) if listed else self.between))) is None:
                source.rewind(mark)
                break
        if called:
            yield from close(source, (("]",) if listed else ()), self.closers)
        return called

    def _object(self, source: Source, sink: Sink) -> Reading[bool]:
        mark, before_count = source.mark, sink.calls_count
        whole = yield from self._members(source, sink)
        called = sink.calls_count > before_count
        if not (whole or called):
            source.rewind(mark)
        return called

    def _members(self, source: Source, sink: Sink) -> Reading[bool]:
        """Read an object.  Returns whether it is whole."""
        call = _Pending(sink)
        ending = yield from source.found("{")
        while ending is not None:
            yield from source.space()
            key = yield from read_parsed(source)
            yield from source.space()
            if key is None or (yield from source.found(":")) is None:
                return False
            yield from source.space()
            if not (yield from self._member(str(key[0]), source, call)):
                return False
            yield from source.space()
            ending = yield from source.found(",", "}")
            if ending == "}":
                return call.end(sure=self.sure)
        return False

    def _member(self, key: str, source: Source, call: _Pending) -> Reading[bool]:
        if key in self.arguments and call.name is not None and not call.opened:
            return (yield from read_arguments(source, call.sink, call.name, self.closers))
        if not self.sure and key not in (*self.names, *self.arguments, *_OTHER_KEYS):
            return False
        value = yield from read_parsed(source)
        if value is None:
            return False
        if key in self.names:
            return call.call(value[0])
        if key in self.arguments:
            call.held = value
        return True


class _Pending:
    """A call whose object is being read."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.name: str | None = None
        self.held: tuple[Any] | None = None  # arguments that came before the name
        self._opened_count = sink.calls_count

    @property
    def opened(self) -> bool:
        """Whether its arguments are out."""
        return self.sink.calls_count > self._opened_count

    def call(self, name: Any) -> bool:
        """Take the name; whether it is a tool's."""
        if not isinstance(name, str) or not self.sink.knows(name) or self.name is not None:
            return False
        self.name = name
        return True

    def end(self, *, sure: bool) -> bool:
        """The object is whole: what was held back makes a call now, if it makes one."""
        if self.name is None:
            return False
        if self.opened:
            return True
        if self.held is None and not sure:
            return False
        arguments = _object_of(self.held[0] if self.held else None)
        if arguments is None:
            return False
        self.sink.open(self.name)
        self.sink.more(arguments)
        return True


def _object_of(value: Any) -> str | None:
    """Arguments as the text of a JSON object: null is none, a string may hold one; None: anything else."""
    if isinstance(value, str):
        inner = parsed(value)
        value = inner[0] if inner else value
    if value is None:
        return "{}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else None


def read_arguments(source: Source, sink: Sink, name: str, ends: tuple[str, ...]) -> Reading[bool]:
    """Read the arguments of a call and let them out as they come.  Returns whether there was a call.

    What turns out not to be JSON goes out up to one of `ends`, or to the end of all.
    """
    yield from source.space()
    if not source.rest.startswith("{"):
        value = yield from read_parsed(source)
        arguments = _object_of(value[0]) if value else None
        if arguments is None:
            return False
        sink.open(name)
        sink.more(arguments)
        return True
    sink.open(name)
    if not (yield from read_value(source, sink.more)):
        yield from source.until(Markers(ends), sink.more)
    return True


def in_turn(
    source: Source, call: Callable[[], Reading[bool]], last: tuple[str, ...], *, many: bool
) -> Reading[bool]:
    """Read one call, or as many as there are, and what may stand behind them all.  Whether there was one."""
    called = False
    while many or not called:
        mark = source.mark
        if not (yield from call()):
            source.rewind(mark)
            break
        called = True
    if called:
        yield from close(source, last)
    return called


def close(source: Source, *texts: tuple[str, ...]) -> Reading[None]:
    """Read what may stand here: one of each of `texts`, with white space around."""
    for wanted in texts:
        mark = source.mark
        yield from source.space()
        if not wanted or (yield from source.found(*wanted)) is None:
            source.rewind(mark)


@dataclass(frozen=True)
class Named:
    """Calls that write the name first, then the arguments.

    Attributes:
        begin: what each call begins with behind the opening marker; empty: nothing.
        kinds: words that may stand in the name's place before it.
        ends: what ends the name.
        lead: what may stand between name and arguments.
        closers: what may stand behind the arguments.
        last: what may stand behind all calls.
        plain: a name that stands for text.
        clean: takes the name out of what is written.
    """

    begin: str = ""
    kinds: tuple[str, ...] = ()
    ends: tuple[str, ...] = ("\n",)
    lead: tuple[str, ...] = ()
    closers: tuple[tuple[str, ...], ...] = ()
    last: tuple[str, ...] = ()
    plain: str = ""
    clean: Callable[[str], str] = str.strip

    def read(self, source: Source, sink: Sink) -> Reading[bool]:
        """As `Calls.read`."""
        return (
            yield from in_turn(source, lambda: self._call(source, sink), self.last, many=bool(self.begin))
        )

    def _call(self, source: Source, sink: Sink) -> Reading[bool]:
        if self.begin:
            yield from source.space()
            if (yield from source.found(self.begin)) is None:
                return False
        name = yield from self._name(source, sink)
        if name is None:
            return False
        if self.plain and name == self.plain:
            return True
        yield from close(source, self.lead)
        stops = tuple(text for texts in (*self.closers, self.last) for text in texts)
        if not (yield from read_arguments(source, sink, name, stops)):
            return False
        yield from close(source, *self.closers)
        return True

    def _name(self, source: Source, sink: Sink) -> Reading[str | None]:
        word = yield from source.word(self.ends)
        if word is not None and word.strip() in self.kinds and not sink.knows(word.strip()):
            word = yield from source.word(self.ends)
        if word is None:
            return None
        name = self.clean(word)
        return name if sink.knows(name) or (self.plain and name == self.plain) else None


@dataclass(frozen=True)
class Either:
    """Two ways to write calls behind one marker: a JSON list, or names first."""

    listed: Objects
    named: Named

    def read(self, source: Source, sink: Sink) -> Reading[bool]:
        """As `Calls.read`."""
        yield from source.space()
        chosen: Calls = self.listed if source.rest[:1] in {"[", "{"} else self.named
        return (yield from chosen.read(source, sink))
