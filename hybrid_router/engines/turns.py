"""An engine that works on one task a step, a piece of it at a time.

As many tasks are under way as the craft says (`Opened.parallel`), and get their steps in turn: `rounds` says
whose is next.  An error ends its own task alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from typing import Protocol, TypeAlias

from hybrid_router.core.call import answers_count
from hybrid_router.core.event import Batch, Event, Finish, Usage
from hybrid_router.engines.rounds import Rounds
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

        Where `Opened.parallel` is more than one, other tasks' steps come between this one's: what they
        share must not remember whose step was last.  One more than so many may be under way.

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
        self._turns: dict[int, _Turn] = {}  # by task
        self._rounds = Rounds(craft.opened().parallel)

    def opened(self) -> Opened:
        """What the model is."""
        return self._craft.opened()

    @property
    def busy(self) -> bool:
        return bool(self._turns)

    def begin(self, task: Task) -> list[Answer]:
        try:
            work = self._craft.take(task)
        except TaskRefused as no:
            return [no.told(task.id)]
        except Exception as error:  # noqa: BLE001 - a library's own, of any kind: the worker serves others
            return [_told(error).told(task.id)]
        self._turns[task.id] = _Turn(task, work)
        self._rounds.add(task.id, task.principal)
        return []

    def cancel(self, task_id: int) -> None:
        turn = self._end(task_id)
        if turn is not None:
            turn.work.close()

    def step(self) -> list[Answer]:
        turn = self._turns[self._rounds.take()]
        turn.begin()
        task_id = turn.task.id
        try:
            batch = next(turn.work)
        except StopIteration as end:
            self._end(task_id)
            return [Output(id=task_id, events=turn.ending(end.value), last=True)]
        except TaskRefused as no:
            self._end(task_id)
            return [no.told(task_id)]
        except EngineFailed:
            raise
        except Exception as error:  # noqa: BLE001 - a library's own, of any kind: the worker serves others
            self._end(task_id)
            return [_told(error).told(task_id)]
        return [Output(id=task_id, events=batch)] if batch else []

    def _end(self, task_id: int) -> _Turn | None:
        self._rounds.drop(task_id)
        return self._turns.pop(task_id, None)

    def idle(self) -> bool:
        return False

    def close(self) -> None:
        self._craft.close()


class _Turn:
    """A task and its work.  Times are on the monotonic clock."""

    def __init__(self, task: Task, work: Work) -> None:
        self.task = task
        self.work = work
        self._taken_s = time.monotonic()
        self._begun_s: float | None = None

    def begin(self) -> None:
        """It is no longer waiting, if it was."""
        if self._begun_s is None:
            self._begun_s = time.monotonic()

    def ending(self, usage: Usage | None) -> list[Event]:
        """What comes last: every choice is whole, and what it cost."""
        task = self.task
        count = task.n * answers_count(task.operation, len(task.prompts) + len(task.uploads))
        counted = usage or Usage(0, 0)
        begun_s = self._begun_s or self._taken_s
        timed = Usage(
            counted.prompt_tokens,
            counted.completion_tokens,
            queue_s=begun_s - self._taken_s,
            prefill_s=counted.prefill_s,
            decode_s=time.monotonic() - begun_s if counted.decode_s is None else counted.decode_s,
            sound_s=counted.sound_s,
        )
        return [*(Finish("stop", index) for index in range(count)), timed]


def _told(error: Exception) -> TaskRefused:
    """An error that nobody expected.  Its text may quote the call: only its type is told."""
    _log.error("a task failed: %s", type(error).__name__)
    return TaskRefused(ENGINE_ERROR, f"the engine failed at this call ({type(error).__name__})")
