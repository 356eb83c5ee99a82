"""Reading tool calls whose arguments stand between tags, each value by itself, text as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hybrid_router.engines.llama.chat.calls import close, in_turn
from hybrid_router.engines.llama.chat.json_text import parsed
from hybrid_router.engines.llama.chat.reader import Sink
from hybrid_router.engines.llama.chat.source import SPACE, Markers, Reading, Source


@dataclass(frozen=True)
class Tagged:
    """Calls with tagged values.  See `calls.Calls`.

    Attributes:
        head, head_ends: around the function's name.
        key, key_ends: around a parameter's name.
        value: what may begin the value behind it.
        value_end: what ends it.
        tail: what ends the call.
        last: what may stand behind all calls.
        many: one opening marker may hold several calls.
    """

    head: str
    head_ends: tuple[str, ...]
    key: str
    key_ends: tuple[str, ...]
    value_end: str
    tail: str
    value: tuple[str, ...] = ()
    last: tuple[str, ...] = ()
    many: bool = False

    def read(self, source: Source, sink: Sink) -> Reading[bool]:
        """As `Calls.read`."""
        return (yield from in_turn(source, lambda: self._call(source, sink), self.last, many=self.many))

    def _call(self, source: Source, sink: Sink) -> Reading[bool]:
        name = yield from self._name(source)
        if name is None or not sink.knows(name):
            return False
        yield from source.space()
        mark = source.mark
        if (yield from source.found(self.key, self.tail)) is None:
            return False
        source.rewind(mark)
        sink.open(name)
        yield from self._parameters(source, sink, name)
        return True

    def _name(self, source: Source) -> Reading[str | None]:
        """The function's name; an end of it that is a tag stays."""
        yield from source.space()
        if self.head and (yield from source.found(self.head)) is None:
            return None
        gathered: list[str] = []
        end = yield from source.until(Markers(self.head_ends), gathered.append, 256)
        if end in {self.key, self.tail}:
            source.advance(-len(end or ""))
        return None if end is None else "".join(gathered).strip()

    def _parameters(self, source: Source, sink: Sink, name: str) -> Reading[None]:
        before = "{"
        while True:
            yield from source.space()
            found = yield from source.found(self.key, self.tail)
            if found != self.key:
                break
            key = yield from source.word(self.key_ends)
            if key is None:
                break
            yield from close(source, self.value)
            sink.more(f"{before}{json.dumps(key.strip(), ensure_ascii=False)}: ")
            before = ", "
            if not (yield from self._value(source, sink, sink.tools.offered[name].schema_of(key.strip()))):
                return  # cut off inside: so are the arguments
        if found == self.tail or not source.over:
            sink.more("{}" if before == "{" else "}")

    def _value(self, source: Source, sink: Sink, schema: dict[str, Any]) -> Reading[bool]:
        """Read a value.  Returns whether its end was found."""
        end = Markers((self.value_end,))
        if not is_text(schema):
            gathered: list[str] = []
            found = yield from source.until(end, gathered.append)
            if found is not None:
                sink.more(typed("".join(gathered), schema))
            return found is not None
        quoted = _Quoted(sink.more)
        found = yield from source.until(end, quoted.take)
        if found is not None:
            quoted.end()
        return found is not None


class _Quoted:
    """Text on its way into a JSON string; one line end at its beginning and one at its end are the tags'."""

    def __init__(self, emit: Callable[[str], None]) -> None:
        self._emit = emit
        self._held = ""
        self._begun = False
        emit('"')

    def take(self, text: str) -> None:
        """Take text."""
        if not self._begun:
            self._begun = True
            text = text.removeprefix("\n")
        text = self._held + text
        self._held = "\n" if text.endswith("\n") else ""
        self._emit(json.dumps(text.removesuffix("\n"), ensure_ascii=False)[1:-1])

    def end(self) -> None:
        """The value is whole."""
        self._emit('"')


def is_text(schema: dict[str, Any]) -> bool:
    """Whether a value of this schema is always a string."""
    if schema.get("type") is not None:
        return schema["type"] in ("string", ["string"])
    choices = schema.get("enum")
    return isinstance(choices, list) and all(isinstance(choice, str) for choice in choices)


def typed(text: str, schema: dict[str, Any]) -> str:
    """A value as written between tags, as JSON: what the schema's type makes of it, else a string."""
    text = text.strip(SPACE)
    found = parsed(text if text not in {"True", "False", "None"} else _PYTHON_WORDS[text])
    wanted = schema.get("type")
    types = [wanted] if isinstance(wanted, str) else wanted if isinstance(wanted, list) else []
    quoted = json.dumps(text, ensure_ascii=False)
    if found is None or ("string" in types and not any(_IS[kind](found[0]) for kind in types if kind in _IS)):
        return quoted
    return json.dumps(found[0], ensure_ascii=False)


_PYTHON_WORDS = {"True": "true", "False": "false", "None": "null"}
_IS: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}
