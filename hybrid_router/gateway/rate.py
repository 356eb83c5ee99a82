"""How many calls a gateway takes in an interval."""

from __future__ import annotations

from collections import deque
from typing import Literal


class Rate:
    """At most `most` calls in an interval: of the clock (`fixed`), or always the last one (`sliding`)."""

    def __init__(self, most: int, interval_s: float, technique: Literal["fixed", "sliding"]) -> None:
        self._most = most
        self._interval_s = interval_s
        self._technique = technique
        self._window = -1
        self._window_count = 0
        self._taken_s: deque[float] = deque()

    def admit(self, now_s: float) -> bool:
        """Count a call in, or say that it is one too many; such a one is not counted.

        Args:
            now_s: of a clock that begins its intervals at 0, as the wall clock does.
        """
        return self._fixed(now_s) if self._technique == "fixed" else self._sliding(now_s)

    def wait_s(self, now_s: float) -> float:
        """Seconds until a call that was one too many would be let in, if no other comes before it."""
        if self._technique == "fixed":
            return self._interval_s - now_s % self._interval_s
        return max(0.0, self._taken_s[0] + self._interval_s - now_s) if self._taken_s else 0.0

    def _fixed(self, now_s: float) -> bool:
        window = int(now_s // self._interval_s)
        if window != self._window:
            self._window, self._window_count = window, 0
        if self._window_count >= self._most:
            return False
        self._window_count += 1
        return True

    def _sliding(self, now_s: float) -> bool:
        while self._taken_s and self._taken_s[0] <= now_s - self._interval_s:
            self._taken_s.popleft()
        if len(self._taken_s) >= self._most:
            return False
        self._taken_s.append(now_s)
        return True
