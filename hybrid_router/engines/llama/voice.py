"""From tokens to events: whole characters, nothing of a stop string, what a parser makes of the text."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Callable

from hybrid_router.core.event import Event, Finish, FinishReason, PromptScores, Text, TokenScore
from hybrid_router.core.stops import StopFilter
from hybrid_router.engines.llama.seams import Parser


class TextStream:
    """One sequence's bytes as text, behind what is `written` already."""

    def __init__(self, stops: tuple[str, ...], written: str = "") -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stops = StopFilter(stops, written)

    def feed(self, piece: bytes) -> tuple[str, bool]:
        """Take a token's bytes.  Returns what may be shown, and whether a stop string was found."""
        return self._stops.feed(self._decoder.decode(piece))

    def flush(self) -> str:
        """The rest, when the answer ends; half a character at the very end is left out."""
        return self._stops.flush()


class Voice:
    """What one choice says."""

    def __init__(
        self,
        index: int,
        piece: Callable[[int], bytes],
        *,
        stops: tuple[str, ...] = (),
        written: str = "",
        parser: Parser | None = None,
    ) -> None:
        """`piece` gives a token's bytes as this choice's reader wants them; `written` is out already, and the
        parser has read it."""
        self._index = index
        self._piece = piece
        self._stream = TextStream(stops, written)
        self._parser = parser
        self._scores: deque[tuple[int, TokenScore]] = deque()  # not out yet: characters, score

    @property
    def over(self) -> bool:
        """Whether whatever follows is of no use."""
        return self._parser is not None and self._parser.over

    @property
    def closing(self) -> str:
        """What ends the reasoning that is going on; empty: there is none."""
        if self._parser is None or not self._parser.thinking:
            return ""
        return self._parser.closing

    def say(self, token: int, score: TokenScore | None = None) -> tuple[list[Event], bool]:
        """Take a chosen token.  Returns what it shows, and whether a stop string ended the answer."""
        piece = self._piece(token)
        if score is not None:
            self._scores.append((len(piece.decode("utf-8", "ignore")), score))
        shown, stopped = self._stream.feed(piece)
        return self._events(shown), stopped

    def end(self, reason: FinishReason, *, stopped: bool = False) -> list[Event]:
        """What was held back, and the finish.  `stopped`: by a stop string, of which nothing is shown."""
        events = [] if stopped else self._events(self._stream.flush())
        if self._parser is None:
            return [*events, Finish(reason, self._index)]
        rest = self._parser.flush(reason)
        return [*events, *rest, Finish(self._parser.reason(reason), self._index)]

    def prompt_scores(self, scores: list[TokenScore]) -> list[Event]:
        """The prompt's scores as an event."""
        return [PromptScores(tuple(scores), self._index)]

    def _events(self, shown: str) -> list[Event]:
        if not shown:
            return []
        events: list[Event] = [Text(shown, self._index)] if self._parser is None else self._parser.feed(shown)
        if self._scores:
            self._attach(events, len(shown))
        return events

    def _attach(self, events: list[Event], shown_count: int) -> None:
        """Give the scores of the tokens that are shown now to the first text."""
        out: list[TokenScore] = []
        while self._scores and (shown_count > 0 or not self._scores[0][0]):
            count, score = self._scores.popleft()
            shown_count -= count
            out.append(score)
        for at, event in enumerate(events):
            if isinstance(event, Text):
                events[at] = Text(event.text, event.index, tuple(out))
                return
        if out and not events:
            events.append(Text("", self._index, tuple(out)))
