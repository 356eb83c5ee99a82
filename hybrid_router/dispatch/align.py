"""Replay and align: an answer given again from its start, of which the client has a part.  Pure."""

from __future__ import annotations

import re
from itertools import takewhile
from typing import Literal, TypeAlias

from hybrid_router.core.event import Batch, Event, Finish, Text, ToolFragment

OnDivergence: TypeAlias = Literal["splice", "error"]

# Between two sentences, with something of the second one in sight.  Western marks end a sentence before
# white space, Chinese and Japanese ones by themselves, either with a closing quotation mark or bracket; a
# line's end does too.
_BORDER = re.compile(
    r"""(?: (?<=[.!?…])(?=\s) | (?<=[.!?…]["'”’»)\]])(?=\s)
      | (?<=[。！？])(?![。！？」』”’）]) | (?<=[。！？][」』”’）])
      | (?<=\S)(?=[^\S\n]*\n) )
    \s*+\S""",
    re.VERBOSE,
)
_BEHIND_CHARS = 2  # how far back a border is recognised by


class Diverged(Exception):
    """The replay says something else than the client was given, and no splice is wanted or possible."""

    def __init__(self, at_char: int) -> None:
        super().__init__(f"the replay differs from character {at_char}")
        self.at_char = at_char


class Aligner:
    """Swallows the beginning of one choice's replay as long as it equals what is out.

    The client's text is `shown` and the replay from `seam_char` on: nothing if that is None.  A splice passes
    the replay from the first border of sentences at or after the place where the client's text ends.

    Args:
        shown: the text that the client has.
        on_divergence: what to do when the replay differs.

    Attributes:
        diverged_at_char: the first character that differs, or that the replay lacks; None: none does.
        seam_char: where in the replay the client's text goes on, once it does.
    """

    def __init__(self, shown: str, on_divergence: OnDivergence) -> None:
        self._shown = shown
        self._on_divergence = on_divergence
        self._read_chars = 0  # of the replay
        self._unplaced = ""  # the replay's last characters, while a border is looked for
        self.diverged_at_char: int | None = None
        self.seam_char: int | None = None

    def feed(self, batch: Batch) -> Batch:
        """What of `batch` is new to the client; may be empty.

        Raises:
            Diverged: it differs, and that is an error, or it ends before a splice is possible.
        """
        if self.seam_char is not None:
            return batch
        new: Batch = []
        for event in batch:
            if isinstance(event, Text):  # the scores of its tokens would be those of what is swallowed too
                if rest := self._text(event.text):
                    new.append(Text(rest, event.index))
            else:
                self._check(event)
                new.append(event)
        return new

    def _text(self, text: str) -> str:
        """What of the replay's next characters is new."""
        if self.seam_char is not None:
            return text
        at = self._read_chars
        self._read_chars += len(text)
        if self.diverged_at_char is not None:
            return self._spliced(text)
        known = self._shown[at : at + len(text)]
        if text.startswith(known):
            if len(known) < len(text):
                self.seam_char = len(self._shown)
            return text[len(known) :]
        self._diverge(at + _equal_chars(text, known))
        behind = max(0, len(self._shown) - at - _BEHIND_CHARS)
        return self._spliced(text[behind:])

    def _spliced(self, text: str) -> str:
        """`text` from the border on, if it brings the one that is looked for."""
        self._unplaced += text
        start = self._read_chars - len(self._unplaced)
        if text.isspace() or not text:
            return ""
        found = _BORDER.search(self._unplaced, max(0, len(self._shown) - start))
        if found is None:
            settled_chars = len(self._unplaced.rstrip()) - _BEHIND_CHARS
            self._unplaced = self._unplaced[max(0, settled_chars) :]
            return ""
        self.seam_char = start + found.start()
        return self._unplaced[found.start() :]

    def _check(self, event: Event) -> None:
        """An answer that ends, or calls a tool, before it has said what the client was told, differs."""
        if self.seam_char is not None or not isinstance(event, Finish | ToolFragment):
            return
        if self.diverged_at_char is not None:
            raise Diverged(self.diverged_at_char)
        if self._read_chars < len(self._shown):
            self.diverged_at_char = self._read_chars
            raise Diverged(self._read_chars)

    def _diverge(self, at_char: int) -> None:
        self.diverged_at_char = at_char
        if self._on_divergence == "error":
            raise Diverged(at_char)


def _equal_chars(one: str, other: str) -> int:
    """How many characters both begin with."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
