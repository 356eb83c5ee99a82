"""An engine that works on one task at a time, a piece of it a step.

Whoever has waited longest goes first, but a principal with many tasks lets the others in between.  An error
ends its own task alone.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Generator
from typing import Protocol, TypeAlias

from hybrid_router.core.call import answers_count
from hybrid_router.core.event import Batch, Event, Finish, Usage
from hybrid_router.engines.task import Answer, EngineFailed, Opened, Output, Task, TaskRefused

_log = logging.getLogger(__name__)

ENGINE_ERROR = "engine_error"
Work: TypeAlias = Generator[Batch, None, Usage | None]


class Craft(Protocol):
    """What a kind of model can do with one task."""

    def opened(self) -> Opened:
        """What the model is."""
        ...

    def take(self, task: Task) -> Work:
        """Begin a task: check it, map what is needed of its uploads, and give a generator that does the work.

        The generator is advanced a step at a time: each piece of work it does between two `yield`s should
        take a second or less, and an empty batch may be yielded just to let go.  It is closed if nobody wants
        the answer any more.  Its return value is the usage.  The `Finish` events are made for it.

        Raises:
            TaskRefused: it cannot be done.
        """
        ...

    def close(self) -> None:
        """Free what the library holds."""
        ...


class Turns:
    """See `engines.task.Engine`."""

    def __init__(self, craft: Craft) -> None:
        self._craft = craft
        self._waiting: dict[str, deque[_Turn]] = {}  # by principal, the next one's first
        self._current: _Turn | None = None

    def opened(self) -> Opened:
        """What the model is."""
        return self._craft.opened()

    @property
    def busy(self) -> bool:
        return self._current is not None or bool(self._waiting)

    def begin(self, task: Task) -> list[Answer]:
        try:
            work = self._craft.take(task)
        except TaskRefused as no:
            return [no.told(task.id)]
        except Exception as error:  # noqa: BLE001 - a library's own, of any kind: the worker serves others
            return [_told(error).told(task.id)]
        self._waiting.setdefault(task.principal, deque()).append(_Turn(task, work))
        return []

    def cancel(self, task_id: int) -> None:
        if self._current is not None and self._current.task.id == task_id:
            self._current.work.close()
            self._current = None
            return
        for principal, turns in list(self._waiting.items()):
            for turn in [turn for turn in turns if turn.task.id == task_id]:
                turn.work.close()
                turns.remove(turn)
            if not turns:
                del self._waiting[principal]

    def step(self) -> list[Answer]:
        turn = self._current = self._current or self._next()
        try:
            batch = next(turn.work)
        except StopIteration as end:
            self._current = None
            return [Output(id=turn.task.id, events=turn.ending(end.value), last=True)]
        except TaskRefused as no:
            self._current = None
            return [no.told(turn.task.id)]
        except EngineFailed:
            raise
        except Exception as error:  # noqa: BLE001 - a library's own, of any kind: the worker serves others
            self._current = None
            return [_told(error).told(turn.task.id)]
        return [Output(id=turn.task.id, events=batch)] if batch else []

    def _next(self) -> _Turn:
        """The next task, of the principal that was not served for longest."""
        principal = next(iter(self._waiting))
        turns = self._waiting.pop(principal)
        turn = turns.popleft()
        if turns:
            self._waiting[principal] = turns  # behind the others
        turn.begin()
        return turn

    def idle(self) -> bool:
        return False

    def close(self) -> None:
        self._craft.close()


class _Turn:
    """A task and its work.  Times are on the monotonic clock."""

    def __init__(self, task: Task, work: Work) -> None:
        self.task = task
        self.work = work
        self._taken_s = self._begun_s = time.monotonic()

    def begin(self) -> None:
        """It is no longer waiting."""
        self._begun_s = time.monotonic()

    def ending(self, usage: Usage | None) -> list[Event]:
        """What comes last: every choice is whole, and what it cost."""
        task = self.task
        count = task.n * answers_count(task.operation, len(task.prompts) + len(task.uploads))
        counted = usage or Usage(0, 0)
        timed = Usage(
            counted.prompt_tokens,
            counted.completion_tokens,
            queue_s=self._begun_s - self._taken_s,
            prefill_s=counted.prefill_s,
            decode_s=time.monotonic() - self._begun_s if counted.decode_s is None else counted.decode_s,
            sound_s=counted.sound_s,
        )
        return [*(Finish("stop", index) for index in range(count)), timed]


def _told(error: Exception) -> TaskRefused:
    """An error that nobody expected.  Its text may quote the call: only its type is told."""
    _log.error("a task failed: %s", type(error).__name__)
    return TaskRefused(ENGINE_ERROR, f"the engine failed at this call ({type(error).__name__})")
