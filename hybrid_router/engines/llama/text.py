"""From token bytes to text that may be shown: whole characters, nothing of a stop string."""

from __future__ import annotations

import codecs

from hybrid_router.core.stops import StopFilter


class TextStream:
    """One sequence's output, behind what is `written` already."""

    def __init__(self, stops: tuple[str, ...], written: str = "") -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stops = StopFilter(stops, written)

    def feed(self, piece: bytes) -> tuple[str, bool]:
        """Take a token's bytes.  Returns what may be shown, and whether a stop string was found."""
        return self._stops.feed(self._decoder.decode(piece))

    def flush(self) -> str:
        """The rest, when the answer ends; half a character at the very end is left out."""
        return self._stops.flush()
