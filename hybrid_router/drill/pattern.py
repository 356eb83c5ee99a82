"""Texts that a regular expression matches, made from the expression.  Knows the simple part of RE2's syntax.

What it makes is only a suggestion: whoever asks tries it on the expression itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TRIES_COUNT = 16
_MOST_REPEATS = 2000
_CLASSES = {"d": "7", "w": "x", "s": " ", "D": "x", "W": " ", "S": "x"}
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "a": "\a"}
_POSIX = {"alpha": "x", "digit": "7", "alnum": "x", "upper": "X", "lower": "x", "space": " ", "punct": "!"}
_NOTHING = frozenset("bBAz")  # places between characters
_COUNTS = re.compile(r"\{(\d+)(,?)(\d*)\}")
_GROUP = re.compile(r"\((?:\?(?:P?<\w+>|([imsU-]*)(:|\))))?")


class TooHard(ValueError):
    """The expression uses what is not understood here."""


def examples(pattern: str) -> Iterator[str]:
    """Different texts that `pattern` may match as a whole; none if it is too hard."""
    seen = set()
    for choice in range(_TRIES_COUNT):
        try:
            text = _Reader(pattern, choice).whole()
        except TooHard:
            return
        if text not in seen:
            seen.add(text)
            yield text


class _Reader:
    """Reads an expression once and writes one text.

    `choice` says which of several alternatives is taken, and whether what is optional is there.
    """

    def __init__(self, pattern: str, choice: int) -> None:
        self._rest = pattern
        self._choice = choice

    def whole(self) -> str:
        text = self._alternatives()
        if self._rest:
            raise TooHard(self._rest)
        return text

    def _alternatives(self) -> str:
        """Everything up to the end or the group's closing bracket."""
        found = [self._sequence()]
        while self._take("|"):
            found.append(self._sequence())
        return found[self._choice // 2 % len(found)]

    def _sequence(self) -> str:
        pieces = []
        while self._rest and self._rest[0] not in "|)":
            pieces.append(self._repeated(self._one()))
        return "".join(pieces)

    def _repeated(self, piece: str) -> str:
        least, most = 1, 1
        counts = _COUNTS.match(self._rest)
        if counts:
            self._rest = self._rest[counts.end() :]
            least = int(counts[1])
            most = int(counts[3]) if counts[3] else (least + 1 if counts[2] else least)
        elif self._rest[:1] in {"*", "+", "?"}:
            least, most = {"*": (0, 1), "+": (1, 2), "?": (0, 1)}[self._next()]
        else:
            return piece
        self._take("?")  # lazy or not makes no difference
        if least > _MOST_REPEATS:
            raise TooHard(f"{least} repeats")
        return piece * (max(1, least) if self._choice % 2 == 0 and most else least)

    def _one(self) -> str:
        """One character, class or group."""
        if self._rest[0] == "(":
            return self._group()
        char = self._next()
        if char == "\\":
            return self._escape()
        if char == "[":
            return self._class()
        if char in "*+?{":
            raise TooHard(char)
        return {".": "x", "^": "", "$": ""}.get(char, char)

    def _group(self) -> str:
        opening = _GROUP.match(self._rest)
        if opening is None or (self._rest.startswith("(?") and opening.end() == 1):
            raise TooHard(self._rest[:3])
        self._rest = self._rest[opening.end() :]
        if opening[2] == ")":
            return ""  # flags alone
        text = self._alternatives()
        if not self._take(")"):
            raise TooHard("an open group")
        return text

    def _escape(self) -> str:
        char = self._next()
        if char in _NOTHING:
            return ""
        if char in "pPxQCuU" or char.isdigit():
            raise TooHard(f"\\{char}")
        return _CLASSES.get(char) or _ESCAPES.get(char) or char

    def _class(self) -> str:
        """A character of `[…]`: of its first piece, or one that none of its pieces names."""
        denied = self._take("^")
        held: list[str] = []
        while not held or not self._rest.startswith("]"):
            held.append(self._member())
        self._next()
        if not denied:
            return held[0][:1]
        free = [char for char in "x7 Z-_!" if char not in "".join(held)]
        if not free:
            raise TooHard("a class that denies much")
        return free[0]

    def _member(self) -> str:
        """The first character of a class's next piece, all of them where it is a range."""
        if self._rest.startswith("[:"):
            name, _, self._rest = self._rest[2:].partition(":]")
            if name not in _POSIX:
                raise TooHard(name)
            return _POSIX[name]
        char = self._next()
        first = self._escape() if char == "\\" else char
        if self._rest[:1] == "-" and self._rest[1:2] not in {"]", ""}:
            self._next()
            last = self._next()
            last = self._escape() if last == "\\" else last
            return "".join(map(chr, range(ord(first), min(ord(last), ord(first) + 128) + 1)))
        return first

    def _next(self) -> str:
        if not self._rest:
            raise TooHard("it ends too soon")
        char, self._rest = self._rest[0], self._rest[1:]
        return char

    def _take(self, char: str) -> bool:
        found = self._rest.startswith(char)
        self._rest = self._rest.removeprefix(char)
        return found
