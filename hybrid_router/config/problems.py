"""What is wrong with a configuration: all of it, each with its place and what to do."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator
from typing import TypeAlias, TypeVar

from msgspec import Struct

T = TypeVar("T")
KeyPath: TypeAlias = tuple[str | int, ...]
Place: TypeAlias = tuple[int, int]

_PLAIN = re.compile(r"[\w@/:-]+", re.ASCII)


class Problem(Struct, frozen=True, order=True):
    """One thing to mend.  Lines and columns count from 1."""

    line: int
    column: int
    path: str
    message: str


class ConfigErrors(Exception):
    """A configuration that cannot be used.  `str()` prints one problem a line, in the file's order."""

    def __init__(self, name: str, problems: Iterable[Problem]) -> None:
        self.name = name
        self.problems = tuple(sorted(set(problems)))
        super().__init__(name, self.problems)

    def __str__(self) -> str:
        return "\n".join(line(self.name, problem) for problem in self.problems)


class Problems:
    """Gathers problems, and remembers where every key and value of the file is."""

    def __init__(self) -> None:
        self.found: list[Problem] = []
        self._values: dict[KeyPath, Place] = {(): (1, 1)}
        self._keys: dict[KeyPath, Place] = {}
        self._kept: dict[KeyPath, tuple[int, ...]] = {}

    @property
    def places(self) -> dict[KeyPath, Place]:
        """Key path → where its value is."""
        return dict(self._values)

    def place(self, path: KeyPath, value: Place, key: Place | None = None) -> None:
        """Remember where `path` is: its value, and its key where it has one."""
        self._values[path] = value
        if key is not None:
            self._keys[path] = key

    def keep(self, path: KeyPath, positions: tuple[int, ...]) -> None:
        """Remember which entries of the list at `path` were good enough to keep."""
        self._kept[path] = positions

    def numbered(self, path: KeyPath, values: Iterable[T]) -> Iterator[tuple[KeyPath, T]]:
        """The kept entries of the list at `path`, each with the path it was written at."""
        for position, value in zip(self._kept.get(path, ()), values, strict=False):
            yield (*path, position), value

    def names(self, path: KeyPath) -> tuple[str, ...]:
        """The keys written directly below `path`, whether or not their values were any good."""
        depth = len(path) + 1
        return tuple(str(key[-1]) for key in self._keys if len(key) == depth and key[:-1] == path)

    def add(self, path: KeyPath, message: str, *, at_key: bool = False) -> None:
        """Note a problem at `path`, or at the nearest thing above it that was written."""
        line, column = self._nearest(path, at_key=at_key)
        self.found.append(Problem(line, column, spelled(path), message))

    def _nearest(self, path: KeyPath, *, at_key: bool) -> Place:
        if at_key and path in self._keys:
            return self._keys[path]
        while path not in self._values:
            path = path[:-1]
        return self._values[path]


def line(name: str, problem: Problem) -> str:
    """A problem on one line, behind its place in the file called `name`."""
    where = f"{name}:{problem.line}:{problem.column}"
    return printable(": ".join(filter(None, (where, problem.path, problem.message))))


def printable(text: str) -> str:
    """`text` with control characters spelled out, so that a file never writes to a terminal."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def spelled(path: KeyPath) -> str:
    """A key path as people write it: `aliases.default.try[1]`; odd keys in quotes."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _PLAIN.fullmatch(part) else json.dumps(part))
    return text


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """`; did you mean x?` where one of `known` looks like `wrong`, else a list of them."""
    names = list(known)
    return meant(wrong, names) or (f"; there is {', '.join(names)}" if names else "; there is none")


def meant(wrong: str, known: Iterable[str]) -> str:
    """`; did you mean x?` where one of `known` looks like `wrong`, else nothing."""
    close = difflib.get_close_matches(wrong, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
