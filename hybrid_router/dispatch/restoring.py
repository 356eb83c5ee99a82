"""Putting back what was redacted, into an answer that arrives in pieces of any size.  Pure."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Mapping
from typing import TypeAlias

from hybrid_router.core.event import (
    Batch,
    Event,
    Finish,
    PromptScores,
    Reasoning,
    Text,
    ToolFragment,
)

_PLAIN = re.compile(r"<([A-Z_]+_[0-9]+)>")
_IN_JSON = re.compile(r"(?:<|\\u003[cC])([A-Z_]+_[0-9]+)(?:>|\\u003[eE])")
_OPENINGS = ("<", r"\u003c", r"\u003C")
_CLOSINGS = (">", r"\u003e", r"\u003E")

Place: TypeAlias = tuple[int, str, int]  # choice; text, reasoning or arguments; which tool call


class Restorer:
    """Replaces placeholders by what they stand for.

    What may be the beginning of a placeholder is held back until it is clear what it is: never more than the
    longest placeholder, and let go when its choice finishes.

    Args:
        values: placeholder's name (`EMAIL_1`, written `<EMAIL_1>`) → what it stands for.
        json_text: the answer's text is JSON, so what is put into it is escaped, as in tools' arguments.
    """

    def __init__(self, values: Mapping[str, str], *, json_text: bool = False) -> None:
        self._has_values = bool(values)
        self._plain = _Alphabet(values, _PLAIN, ("<",), (">",))
        escaped = {name: json.dumps(value, ensure_ascii=False)[1:-1] for name, value in values.items()}
        self._json = _Alphabet(escaped, _IN_JSON, _OPENINGS, _CLOSINGS)
        self._text = self._json if json_text else self._plain
        self._strands: dict[Place, _Strand] = {}

    def feed(self, batch: Batch) -> Batch:
        """What of `batch` may be shown now, restored; may be empty.

        Where anything was replaced no text keeps its scores: they are those of other tokens.
        """
        if not self._has_values:
            return batch
        restored: Batch = []
        for event in batch:
            match event:
                case Text(text=text, index=index):
                    restored += self._of(index, "text").feed(text)
                case Reasoning(text=text, index=index):
                    restored += self._of(index, "reasoning").feed(text)
                case ToolFragment():
                    restored += self._of(event.index, "arguments", event.position).feed_fragment(event)
                case PromptScores():
                    pass
                case Finish(index=index):
                    restored += self._released(index)
                    restored.append(event)
                case _:
                    restored.append(event)
        return restored

    def end(self) -> Batch:
        """What is still held back, now that nothing more comes."""
        return [
            event
            for index in sorted({place[0] for place in self._strands})
            for event in self._released(index)
        ]

    def _of(self, index: int, kind: str, position: int = 0) -> _Strand:
        place = index, kind, position
        strand = self._strands.get(place)
        if strand is None:
            alphabet = {"text": self._text, "reasoning": self._plain, "arguments": self._json}[kind]
            strand = self._strands[place] = _Strand(place, alphabet)
        return strand

    def _released(self, index: int) -> Batch:
        return [
            event
            for place, strand in self._strands.items()
            if place[0] == index
            for event in strand.release()
        ]


class _Alphabet:
    """The placeholders in one kind of text, and what each becomes there."""

    def __init__(
        self,
        values: Mapping[str, str],
        pattern: re.Pattern[str],
        openings: tuple[str, ...],
        closings: tuple[str, ...],
    ) -> None:
        self._values = values
        self._pattern = pattern
        self._first = tuple({opening[0] for opening in openings})
        self._forms = sorted(
            opening + name + closing for name in values for opening in openings for closing in closings
        )
        self._longest_count = max(map(len, self._forms), default=0)

    def restored(self, text: str) -> str:
        """`text` with every placeholder replaced, in one pass: what is put in is not looked at again."""
        if not any(first in text for first in self._first):
            return text
        return self._pattern.sub(lambda found: self._values.get(found[1], found[0]), text)

    def undecided_from(self, text: str) -> int:
        """Where the end of `text` begins that may become a placeholder; its length if there is none."""
        for at in range(max(0, len(text) - self._longest_count + 1), len(text)):
            if text[at] in self._first and self._begins_one(text[at:]):
                return at
        return len(text)

    def _begins_one(self, tail: str) -> bool:
        at = bisect_left(self._forms, tail)
        return at < len(self._forms) and self._forms[at].startswith(tail) and self._forms[at] != tail


class _Strand:
    """One text that grows: of a choice, its reasoning, or a tool call's arguments."""

    __slots__ = ("_alphabet", "_held", "_place")

    def __init__(self, place: Place, alphabet: _Alphabet) -> None:
        self._place = place
        self._alphabet = alphabet
        self._held = ""

    def feed(self, text: str) -> Batch:
        return self._events(self._taken(text))

    def feed_fragment(self, fragment: ToolFragment) -> Batch:
        """A piece of a tool call; the one that names it is passed on even if its arguments are held back."""
        arguments = self._taken(fragment.arguments)
        if not arguments and fragment.id is None and fragment.name is None:
            return []
        return [
            ToolFragment(
                fragment.position, arguments, id=fragment.id, name=fragment.name, index=fragment.index
            )
        ]

    def release(self) -> Batch:
        held, self._held = self._held, ""
        return self._events(held)

    def _taken(self, text: str) -> str:
        """What may be shown of what was held back and `text`."""
        pending = self._held + text
        at = self._alphabet.undecided_from(pending)
        self._held = pending[at:]
        return self._alphabet.restored(pending[:at])

    def _events(self, text: str) -> list[Event]:
        index, kind, position = self._place
        if not text:
            return []
        if kind == "arguments":
            return [ToolFragment(position, text, index=index)]
        return [Text(text, index) if kind == "text" else Reasoning(text, index)]
