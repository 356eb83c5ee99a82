"""When a failing model is left alone, and when it is tried again.  Pure: the time is handed in.

Closed: every call may try.  Open: none may, for a while.  Half-open: one may, the probe, and what becomes of
it decides.  Beside that a bench: none may until a time that the backend itself has named.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Literal, TypeAlias

Word: TypeAlias = Literal["closed", "open", "half_open", "benched"]

MOST_FAILURES = 5  # in a row
WINDOW_S = 30.0
LEAST_OUTCOMES = 10  # in the window, before their share says anything
MOST_OUTCOMES = 100
FAILED_SHARE = 0.5
FIRST_OPEN_S = 5.0
LONGEST_OPEN_S = 60.0


class Breaker:
    """The breaker of one model.  Every attempt that may `enter` ends in exactly one of the other three."""

    __slots__ = (
        "_because",
        "_bench_until_s",
        "_benched",
        "_open_for_s",
        "_open_until_s",
        "_opened_s",
        "_outcomes",
        "_probing",
        "_row_count",
        "_running_count",
    )

    def __init__(self) -> None:
        self._outcomes: deque[tuple[float, bool]] = deque(maxlen=MOST_OUTCOMES)  # when; whether it failed
        self._row_count = 0  # failures since the last success
        self._running_count = 0
        self._probing = False
        self._opened_s = -math.inf
        self._open_until_s: float | None = None  # None: closed
        self._open_for_s = 0.0
        self._because = ""
        self._bench_until_s: float | None = None
        self._benched = ""

    def word(self, now_s: float) -> Word:
        """The state's name."""
        if self._bench_left_s(now_s) > 0:
            return "benched"
        if self._open_until_s is None:
            return "closed"
        return "open" if now_s < self._open_until_s else "half_open"

    def why_not(self, now_s: float) -> str | None:
        """Why a call may not try now, in one sentence; None if it may.  Changes nothing."""
        if (left_s := self._bench_left_s(now_s)) > 0:
            return f"{self._benched} (asked again in {span(left_s)})"
        if self._open_until_s is None:
            return None
        if now_s < self._open_until_s:
            return f"its breaker is open for {span(self._open_until_s - now_s)} more after {self._because}"
        if self._probing:
            return f"its breaker lets one call through at a time after {self._because}, and that one runs"
        return None

    def wait_s(self, now_s: float) -> float | None:
        """Seconds until a call may try; None: it may now, or nobody knows when.  Changes nothing."""
        open_left_s = 0.0 if self._open_until_s is None else self._open_until_s - now_s
        left_s = max(self._bench_left_s(now_s), open_left_s)
        return left_s if left_s > 0 else None

    def enter(self, now_s: float) -> bool:
        """Begin an attempt, which half-open becomes the probe.  False: it may not run."""
        if self.why_not(now_s) is not None:
            return False
        self._probing = self._open_until_s is not None
        self._running_count += 1
        return True

    def succeeded(self, now_s: float, began_s: float | None = None) -> None:
        """An attempt has shown that the backend works.

        Args:
            began_s: when it began.  One from before the breaker opened says nothing any more.
        """
        if self._ended(began_s):
            if self._open_until_s is not None:
                self._open_until_s = None
                self._outcomes.clear()
            self._row_count = 0
            self._outcomes.append((now_s, False))

    def failed(self, now_s: float, began_s: float | None = None) -> None:
        """An attempt has failed, and the backend is to blame.  `began_s`: see `succeeded`."""
        if not self._ended(began_s):
            return
        if self._open_until_s is not None:
            self._open(now_s, min(2 * self._open_for_s, LONGEST_OPEN_S))
            return
        self._row_count += 1
        self._outcomes.append((now_s, True))
        if because := self._enough(now_s):
            self._because = because
            self._open(now_s, FIRST_OPEN_S)

    def let_go(self, began_s: float | None = None) -> None:
        """An attempt has ended and says nothing of the backend; if it was the probe, another may be it."""
        self._ended(began_s)

    def bench(self, until_s: float, why: str) -> None:
        """Let no call try until then; of two benches the longer one holds."""
        if self._bench_until_s is None or until_s > self._bench_until_s:
            self._bench_until_s, self._benched = until_s, why

    def _ended(self, began_s: float | None) -> bool:
        """An attempt is over.  Whether it counts: it ran while closed, and still is, or it was the probe."""
        self._running_count = max(0, self._running_count - 1)  # an attempt may be older than its breaker
        is_old = began_s is not None and began_s <= self._opened_s
        was_probe = self._probing and not is_old
        if was_probe or self._running_count == 0:  # where none runs, none is the probe
            self._probing = False
        return was_probe or (self._open_until_s is None and not is_old)

    def _open(self, now_s: float, for_s: float) -> None:
        self._opened_s, self._open_until_s, self._open_for_s = now_s, now_s + for_s, for_s

    def _enough(self, now_s: float) -> str:
        """Why the last outcomes open the breaker; empty if they do not."""
        if self._row_count >= MOST_FAILURES:
            return f"{self._row_count} failures in a row"
        while self._outcomes and self._outcomes[0][0] < now_s - WINDOW_S:
            self._outcomes.popleft()
        count = len(self._outcomes)
        failed_count = sum(failed for _, failed in self._outcomes)
        if count < LEAST_OUTCOMES or failed_count < FAILED_SHARE * count:
            return ""
        return f"{failed_count} of its last {count} calls failed"

    def _bench_left_s(self, now_s: float) -> float:
        return 0.0 if self._bench_until_s is None else self._bench_until_s - now_s


def span(wait_s: float) -> str:
    """A wait as one reads it: `3.2 s`, `12 min`, `7 h 5 min`."""
    if wait_s < 60:  # noqa: PLR2004
        return f"{wait_s:.1f} s"
    hours, minutes = divmod(round(wait_s / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
