"""The text of one choice, cut before the first stop string: models there know such strings or do not."""

from __future__ import annotations

from hybrid_router.core.event import Batch, Finish, FinishReason, Text, Usage
from hybrid_router.core.stops import StopFilter


class Said:
    """What a model says.

    Args:
        max_tokens: of the answer, if it was told a limit.

    Attributes:
        met: a stop string has ended it.
    """

    def __init__(self, index: int, stops: tuple[str, ...], max_tokens: int | None) -> None:
        self._index = index
        self._stop = StopFilter(stops)
        self._max_tokens = max_tokens
        self.met = False

    def feed(self, text: str) -> Batch:
        """More of it."""
        if self.met:
            return []
        shown, self.met = self._stop.feed(text)
        return [Text(shown, self._index)] if shown else []

    def finish(self, usage: Usage | None) -> Batch:
        """It is whole.  Nobody names a reason: the tokens tell whether the limit was reached."""
        reason: FinishReason = "stop"
        if not self.met and self._max_tokens is not None and usage is not None:
            reason = "length" if usage.completion_tokens >= self._max_tokens else "stop"
        held = "" if self.met else self._stop.flush()
        return [*([Text(held, self._index)] if held else []), Finish(reason, self._index)]
