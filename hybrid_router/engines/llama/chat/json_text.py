"""JSON as it comes: whether it can still become a value, and where the value ends."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from hybrid_router.engines.llama.chat.source import SPACE, Reading, Source

_ATOM = re.compile(r"[-+.0-9A-Za-z]+")
_WHOLE_ATOM = re.compile(r"true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]+')
_LINE_ENDS = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_HEX = frozenset("0123456789abcdefABCDEF")
_ESCAPED = frozenset('"\\/bfnrt')
_DEPTH_LIMIT_COUNT = 200


class Scanner:
    """Reads one JSON value, character by character.

    Models write line ends into strings as they are: these are escaped on the way, so that what comes out is
    JSON.

    Attributes:
        done: the value is whole.
        broken: what came is not JSON.
    """

    def __init__(self) -> None:
        self.done = False
        self.broken = False
        self._closers: list[str] = []  # of what is open
        self._wants = "value"  # first, first key, key, colon, next, string, escape, atom
        self._atom = ""
        self._hex_left_count = 0
        self._in_key = False

    def take(self, text: str) -> tuple[int, str]:
        """Read as much of `text` as belongs to the value.  Returns how much, and how it is written."""
        at, out = 0, []
        while at < len(text) and not (self.done or self.broken):
            count, written = self._piece(text, at)
            at += count
            out.append(written)
        return at, "".join(out)

    def end(self) -> None:
        """Nothing more comes: a number may end here."""
        if self._wants == "atom":
            self._end_atom()
        self.broken = self.broken or not self.done

    def _piece(self, text: str, at: int) -> tuple[int, str]:
        """Read the next character, or more; what is broken is not read."""
        if self._wants == "string":
            return self._in_string(text, at)
        if self._wants == "escape":
            return self._escaped(text[at])
        if self._wants == "atom":
            return self._in_atom(text, at)
        character = text[at]
        if character in SPACE:
            return 1, character
        self._structure(character)
        return (0, "") if self.broken or self._wants == "atom" else (1, character)

    def _structure(self, character: str) -> None:
        match self._wants, character:
            case "value" | "first", "{" | "[":
                self._open("}" if character == "{" else "]")
            case "value" | "first" | "first key" | "key", '"':
                self._in_key = self._wants in {"first key", "key"}
                self._wants = "string"
            case "first", "]":
                self._close(character)
            case "first key" | "next", "}" | "]":
                self._close(character)
            case "colon", ":":
                self._wants = "value"
            case "next", ",":
                self._wants = "key" if self._closers[-1] == "}" else "value"
            case "value" | "first", _ if _ATOM.match(character):
                self._wants = "atom"
            case _:
                self.broken = True

    def _open(self, closer: str) -> None:
        self._closers.append(closer)
        self._wants = "first key" if closer == "}" else "first"
        self.broken = len(self._closers) > _DEPTH_LIMIT_COUNT

    def _close(self, character: str) -> None:
        if self._closers[-1] != character:
            self.broken = True
            return
        self._closers.pop()
        self._value_ended()

    def _value_ended(self) -> None:
        self._wants = "next"
        self.done = not self._closers

    def _in_string(self, text: str, at: int) -> tuple[int, str]:
        if plain := _PLAIN.match(text, at):
            return len(plain.group()), plain.group()
        character = text[at]
        if character == '"':
            self._wants = "colon"
            if not self._in_key:
                self._value_ended()
        elif character == "\\":
            self._wants = "escape"
        else:
            return 1, _LINE_ENDS.get(character, f"\\u{ord(character):04x}")
        return 1, character

    def _escaped(self, character: str) -> tuple[int, str]:
        if self._hex_left_count:
            self._hex_left_count -= 1
            self.broken = character not in _HEX
        elif character == "u":
            self._hex_left_count = 4
        else:
            self.broken = character not in _ESCAPED
        if not self._hex_left_count:
            self._wants = "string"
        return (0, "") if self.broken else (1, character)

    def _in_atom(self, text: str, at: int) -> tuple[int, str]:
        run = _ATOM.match(text, at)
        if run is None:
            self._end_atom()
            return 0, ""
        self._atom += run.group()
        return len(run.group()), run.group()

    def _end_atom(self) -> None:
        if _WHOLE_ATOM.fullmatch(self._atom):
            self._value_ended()
        else:
            self.broken = True
        self._atom = ""


def read_value(source: Source, emit: Callable[[str], None]) -> Reading[bool]:
    """Read a JSON value, emitting it as it comes.  Returns whether it was one, to its end."""
    scanner = Scanner()
    while True:
        count, written = scanner.take(source.rest)
        source.advance(count)
        if written:
            emit(written)
        if not (scanner.done or scanner.broken) and source.over:
            scanner.end()
        if scanner.done or scanner.broken:
            return scanner.done
        yield


def read_parsed(source: Source) -> Reading[tuple[Any] | None]:
    """Read a JSON value and parse it; None: it is none."""
    gathered: list[str] = []
    whole = yield from read_value(source, gathered.append)
    return parsed("".join(gathered)) if whole else None


def parsed(text: str) -> tuple[Any] | None:
    """The value of a JSON text, in a tuple, as the value may be None; None: not JSON."""
    try:
        return (json.loads(text),)
    except (ValueError, RecursionError):
        return None
