"""A function that blocks, run a stride at a time: it works in a thread of its own, which waits in between.

One of the two sides works at any time, so nothing they share needs a lock.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeAlias, TypeVar

from hybrid_router.core.event import Batch

R = TypeVar("R")
LetGo: TypeAlias = Callable[[Batch], None]


class Unwanted(Exception):
    """Nobody wants the result any more; raised inside the function where it let go."""


class Strides:
    """The thread.  One for all functions: OpenMP makes new threads for every one that it is called in."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="strides")
        self._asked: SimpleQueue[bool] = SimpleQueue()  # whether to go on
        self._told: SimpleQueue[Batch | None] = SimpleQueue()  # None: the function has ended
        self._waits = False

    def run(self, work: Callable[[LetGo], R]) -> Generator[Batch, None, R]:
        """Advance `work` from one call of its argument to the next; what it hands over is yielded.

        If this generator is closed, `work` ends where it is, before `close` returns.

        Raises:
            Exception: whatever `work` raises.
        """
        result = self._pool.submit(work, self._let_go)
        result.add_done_callback(lambda _: self._told.put(None))
        try:
            while (batch := self._told.get()) is not None:
                self._waits = True
                yield batch
                self._go_on(True)
        finally:
            if self._waits:
                self.abandon()
                self._told.get()
        return result.result()

    def abandon(self) -> None:
        """Have the function that waits end, if one does."""
        if self._waits:
            self._go_on(False)

    def close(self) -> None:
        """End the thread."""
        self.abandon()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _go_on(self, wanted: bool) -> None:
        self._waits = False
        self._asked.put(wanted)

    def _let_go(self, batch: Batch) -> None:
        """In the thread: hand over, and wait to be asked on."""
        self._told.put(batch)
        if not self._asked.get():
            raise Unwanted
