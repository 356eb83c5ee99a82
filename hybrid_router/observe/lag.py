"""Noticing a blocked event loop, and what blocks it.

The loop cannot look at itself while it is blocked, so a thread watches a beat that the loop makes.
systemd's watchdog is for a loop that never comes back; this is for one that does.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct

_INTERVAL_S = 0.2
_FRAMES = 12


class Stall(Struct, frozen=True, kw_only=True):
    """A loop that was or is blocked.

    Attributes:
        lag_s: for how long so far, or in all.
        over: whether the loop runs again.
        where: what it was in, `module:line function`, innermost last; empty if nobody could look.
    """

    lag_s: float
    over: bool
    where: tuple[str, ...] = ()


OnStall: TypeAlias = Callable[[Stall], None]


class LagWatch:
    """Measures how late the loop is.

    `on_stall` hears of a stall as soon as it passes the threshold, from the watching thread, and again
    from the loop when it is over.

    Attributes:
        lag_s: the last beat's lateness.
        worst_s: the worst so far.
        stalls_count: how often the threshold was passed.
    """

    def __init__(
        self, on_stall: OnStall, *, threshold_s: float = 1.0, interval_s: float = _INTERVAL_S
    ) -> None:
        self._on_stall = on_stall
        self._threshold_s = threshold_s
        self._interval_s = interval_s
        self._due_s = 0.0
        self._seen: Stall | None = None
        self._stopped = threading.Event()
        self.lag_s = 0.0
        self.worst_s = 0.0
        self.stalls_count = 0

    async def run(self) -> None:
        """Watch the running loop until cancelled."""
        self._due_s = time.monotonic() + self._interval_s
        self._stopped.clear()
        watcher = threading.Thread(
            target=self._watch, args=(threading.get_ident(),), name="loop-watch", daemon=True
        )
        watcher.start()
        try:
            while True:
                await asyncio.sleep(self._interval_s)
                self._beat()
        finally:
            self._stopped.set()
            watcher.join(1.0)  # it waits on the event alone, so this takes microseconds

    def _beat(self) -> None:
        """On the loop: how late are we?"""
        now_s = time.monotonic()
        self.lag_s = max(0.0, now_s - self._due_s)
        self.worst_s = max(self.worst_s, self.lag_s)
        self._due_s = now_s + self._interval_s
        seen, self._seen = self._seen, None
        if self.lag_s > self._threshold_s:
            self.stalls_count += 1
            self._on_stall(Stall(lag_s=self.lag_s, over=True, where=seen.where if seen else ()))

    def _watch(self, loop_thread: int) -> None:
        """On the thread: is a beat missing?  Says so once a stall."""
        while not self._stopped.wait(self._interval_s):
            late_s = time.monotonic() - self._due_s
            if late_s > self._threshold_s and self._seen is None:
                self._seen = Stall(lag_s=late_s, over=False, where=_where(loop_thread))
                self._on_stall(self._seen)


def _where(thread: int) -> tuple[str, ...]:
    """The stack of a thread, places only: no line of source and no value."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001  the documented way to see another thread
    if frame is None:
        return ()
    stack = list(traceback.walk_stack(frame))[:_FRAMES]
    return tuple(
        f"{one.f_globals.get('__name__', '?')}:{line} {one.f_code.co_name}" for one, line in reversed(stack)
    )
