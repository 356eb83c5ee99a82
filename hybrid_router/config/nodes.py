"""YAML text → node tree, with the ways a YAML file can attack its reader closed.

Tags are refused (no objects), as is what would expand to more than `MAX_NODES` nodes (the "billion
laughs": anchors that repeat anchors), refer to itself, or nest deeper than any configuration does.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from hybrid_router.config.problems import Problem

MAX_NODES = 50_000
MAX_DEPTH = 32

# What the parser says, and what to do about it.
_ADVICE = (
    (r"character '\\t'", "a tab where YAML wants spaces"),
    (r"character '.+' that cannot start", "put the value in quotes"),
    (r"unknown escape character", "in double quotes \\ begins an escape: use single quotes, as for patterns"),
    (r"mapping values are not allowed", "put a value that has ': ' in it in quotes, or mend the indentation"),
    (r"expected <block end>", "mend the indentation: keys that belong together begin in the same column"),
    (r"unexpected end of stream", "a quote is opened and never closed"),
)


class Malformed(Exception):
    """Not a YAML document that is read here."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def compose(text: str) -> yaml.Node:
    """The document's root node.

    Raises:
        Malformed: a syntax error, a tag, too much of anything, or no document.
    """
    try:
        _Limits().check(text)
        node = yaml.SafeLoader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        raise _malformed(error.problem_mark or error.context_mark, _advised(error.problem)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Malformed(Problem(line, 1, "", f"a character that YAML forbids: {error.reason}")) from None
    if node is None:
        raise _malformed(None, "the file is empty; it needs `backends` and `aliases`")
    return node


def _advised(said: str | None) -> str:
    """The parser's sentence with what to do, where that is known."""
    said = said or "not YAML"
    advice = next((advice for pattern, advice in _ADVICE if re.search(pattern, said)), None)
    return said if advice is None else f"{said}: {advice}"


def _malformed(mark: Any, message: str) -> Malformed:
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    return Malformed(Problem(line, column, "", message))


class _Limits:
    """Reads the parser's events, which need no recursion, before the composer, which does."""

    def __init__(self) -> None:
        self._open: list[str | None] = []  # anchors of the collections around this event
        self._sizes: list[int] = [0]  # nodes in each of them, and in the whole document
        self._anchored: dict[str, int] = {}

    def check(self, text: str) -> None:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            self._see(event)
            if sum(self._sizes) > MAX_NODES:
                raise _malformed(event.start_mark, f"too much: anchors expand to more than {MAX_NODES} nodes")

    def _see(self, event: yaml.Event) -> None:
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise _malformed(event.start_mark, f"the tag {tag} is refused: write plain values")
        match event:
            case yaml.AliasEvent():
                self._sizes[-1] += self._size_of(event)
            case yaml.ScalarEvent():
                self._close(event.anchor, 1)
            case yaml.CollectionStartEvent():
                if len(self._open) == MAX_DEPTH:
                    raise _malformed(event.start_mark, f"nested deeper than {MAX_DEPTH} levels")
                self._open.append(event.anchor)
                self._sizes.append(1)
            case yaml.CollectionEndEvent():
                self._close(self._open.pop(), self._sizes.pop())

    def _close(self, anchor: str | None, size: int) -> None:
        self._sizes[-1] += size
        if anchor is not None:
            self._anchored[anchor] = size

    def _size_of(self, event: yaml.AliasEvent) -> int:
        if event.anchor in self._open:
            raise _malformed(event.start_mark, f"*{event.anchor} refers to itself")
        return self._anchored.get(str(event.anchor), 1)  # an unknown one is the composer's to refuse
