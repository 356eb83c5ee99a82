"""Waiting for one generator many times, with one timer.

`asyncio.timeout` arms and disarms a timer for every wait.  A stream waits for every batch, so here the
timer stays armed, and looks at the current limit when it goes off.  It counts only while somebody waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Self

from hybrid_router.core.event import Batch


class Patience:
    """A timer for the waits of one attempt, one at a time.  Leaving it disarms it."""

    __slots__ = ("_alarm", "_expired", "_loop", "_reader", "_until_s", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._reader: asyncio.Task[Any] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._waiting = False
        self._until_s = 0.0
        self._expired = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    async def next(self, batches: AsyncGenerator[Batch], until_s: float) -> Batch | None:
        """The next batch, None at the end.

        Args:
            until_s: on the loop's clock.

        Raises:
            TimeoutError: nothing came until then; the generator was cancelled.
        """
        task = asyncio.current_task()  # each time: the winner of a hedge goes on in another task
        if task is None:
            raise RuntimeError("batches are waited for by a task")
        self._reader = task
        self._until_s = until_s
        if self._alarm is None or self._alarm.when() > until_s:
            self._arm()
        cancelling_count = task.cancelling()
        self._waiting = True
        batch: Batch | None
        try:
            batch = await batches.__anext__()  # `anext` with a default costs another object a wait
        except StopAsyncIteration:
            batch = None
        except asyncio.CancelledError:
            # As `asyncio.timeout` does it: ours is taken back, a cancellation from outside goes on.
            if self._expired and task.uncancel() <= cancelling_count:
                raise TimeoutError from None
            raise
        finally:
            self._waiting = False
        if self._expired:  # a generator that swallows its cancellation changes nothing
            task.uncancel()
            raise TimeoutError
        return batch

    def _arm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(self._until_s, self._ring)

    def _ring(self) -> None:
        """The alarm went off: for a wait that is over, one that may go on, or one that has been too long."""
        self._alarm = None
        if not self._waiting or self._reader is None:
            return
        if self._loop.time() < self._until_s:
            self._arm()
            return
        self._expired = True
        self._reader.cancel()
