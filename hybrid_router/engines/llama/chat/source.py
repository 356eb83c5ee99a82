"""A growing text that parsers read as if it were all there.

Parsers are generators: where the text ends before something can be decided, they yield, and go on when there
is more.  So what they find never depends on how the text was cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import TypeVar

T = TypeVar("T")
Reading = Generator[None, None, T]  # yields where more text is needed

SPACE = " \t\r\n"


class Source:
    """Text with a place in it.  Marks are counted from the very beginning and stay valid until `forget`."""

    def __init__(self) -> None:
        self._text = ""
        self._begin = 0  # how much was forgotten
        self._at = 0
        self.over = False

    def push(self, text: str) -> None:
        """Add text at the end."""
        self._text += text

    @property
    def rest(self) -> str:
        """What was not read yet."""
        return self._text[self._at :] if self._at else self._text

    @property
    def mark(self) -> int:
        """The place, for `rewind`."""
        return self._begin + self._at

    def advance(self, count: int) -> None:
        """Go on behind `count` characters."""
        self._at += count

    def rewind(self, mark: int) -> None:
        """Go back to where `mark` was taken."""
        self._at = mark - self._begin

    def forget(self) -> None:
        """Let go of what was read: there is no way back."""
        self._text, self._begin, self._at = self.rest, self.mark, 0

    def space(self) -> Reading[None]:
        """Read white space."""
        while True:
            rest = self.rest
            kept = rest.lstrip(SPACE)
            self.advance(len(rest) - len(kept))
            if kept or self.over:
                return
            yield

    def found(self, *texts: str) -> Reading[str | None]:
        """Read the longest of `texts` that comes next; None: something else comes."""
        ordered = sorted(texts, key=len, reverse=True)
        while True:
            rest = self.rest
            for text in ordered:
                if rest.startswith(text):
                    self.advance(len(text))
                    return text
                if text.startswith(rest) and not self.over:
                    break
            else:
                return None
            yield

    def word(self, ends: tuple[str, ...], limit_count: int = 256) -> Reading[str | None]:
        """Read up to one of `ends`, and over it; None: too long, or the end of all."""
        gathered: list[str] = []
        found = yield from self.until(Markers(ends), gathered.append, limit_count)
        return None if found is None else "".join(gathered)

    def until(
        self, markers: Markers, emit: Callable[[str], None], limit_count: int | None = None
    ) -> Reading[str | None]:
        """Emit what comes before the first marker, read the marker, and return it.

        None: there is none until the end, or among the next `limit_count` characters.
        """
        emitted_count = 0
        while True:
            rest = self.rest
            at, found = markers.first(rest, final=self.over)
            if limit_count is not None and emitted_count + at > limit_count:
                return None
            if at:
                emit(rest[:at])
                emitted_count += at
            self.advance(at + len(found or ""))
            if found is not None or self.over:
                return found
            yield


class Markers:
    """Texts to look for at once."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        self.texts = tuple(sorted({text for text in texts if text}, key=len, reverse=True))
        self._pattern = re.compile("|".join(map(re.escape, self.texts)) or r"(?!)")
        self._longest_count = max(map(len, self.texts), default=0)

    def first(self, text: str, *, final: bool) -> tuple[int, str | None]:
        """Where the first marker begins, and which; else how much of `text` is surely before any."""
        hit = self._pattern.search(text)
        begun_at = len(text) if final else self._begun_at(text)
        if hit is not None and begun_at > hit.start():
            return hit.start(), hit.group()
        return begun_at, None

    def _begun_at(self, text: str) -> int:
        """Where the last characters may be the beginning of a marker; the text's length: nowhere."""
        for at in range(max(0, len(text) - self._longest_count + 1), len(text)):
            tail = text[at:]
            if any(len(tail) < len(marker) and marker.startswith(tail) for marker in self.texts):
                return at
        return len(text)
