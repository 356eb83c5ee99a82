"""Stop strings across the borders of tokens and events."""

from __future__ import annotations


class StopFilter:
    """Cuts a growing text before the first stop string.

    Text that may still become a stop string is held back until it cannot.  The stop string that is whole
    first counts, the longer of two that end together: so borders make no difference.  Pure.

    `before` is text that was shown already: a stop string may begin in it.
    """

    def __init__(self, stops: tuple[str, ...], before: str = "") -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._longest_count = max((len(stop) for stop in self._stops), default=0)
        context_chars = max(0, self._longest_count - 1)
        self._held = before[max(0, len(before) - context_chars) :]
        self._shown_count = len(self._held)  # of what is held

    def feed(self, text: str) -> tuple[str, bool]:
        """Take more text.  Returns what may be shown now, and whether a stop string was found."""
        if not self._stops:
            return text, False
        pending = self._held + text
        found = [(at + len(stop), at) for stop in self._stops if (at := pending.find(stop)) >= 0]
        shown_count, self._shown_count = self._shown_count, 0
        if found:
            self._held = ""
            return pending[shown_count : min(found)[1]], True
        kept_at = len(pending) - self._undecided_count(pending)
        self._held = pending[kept_at:]
        self._shown_count = max(0, shown_count - kept_at)
        return pending[shown_count:kept_at], False

    def flush(self) -> str:
        """What was held back, now that nothing more comes."""
        held, self._held = self._held[self._shown_count :], ""
        return held

    def _undecided_count(self, pending: str) -> int:
        """Length of the longest tail of `pending` that begins a stop string."""
        for count in range(min(self._longest_count - 1, len(pending)), 0, -1):
            tail = pending[-count:]
            if any(stop.startswith(tail) for stop in self._stops):
                return count
        return 0
