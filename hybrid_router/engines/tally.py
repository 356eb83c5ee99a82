"""What is still to come of tasks that hold many texts, for engines that compute those of many tasks together.

How a text fails, and what becomes of its neighbours then, is each engine's own.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from hybrid_router.core.event import Embedding, Event, Finish, Relevance, Usage
from hybrid_router.engines.task import Answer, Output

Found: TypeAlias = Embedding | Relevance


class Tally:
    """The tasks of which a text is not computed."""

    def __init__(self) -> None:
        self._ongoing: dict[int, _Ongoing] = {}

    def __bool__(self) -> bool:
        return bool(self._ongoing)

    def open(self, task_id: int, texts_count: int) -> None:
        """Take a task of so many texts, at least one; its time in the queue begins."""
        self._ongoing[task_id] = _Ongoing(begun_s=time.monotonic(), open_count=texts_count)

    def read(self, task_id: int, tokens_count: int) -> None:
        """Note how many tokens its texts have."""
        self._ongoing[task_id].prompt_count = tokens_count

    def compute(self, task_ids: Iterable[int]) -> None:
        """Texts of these tasks are computed from now on: they are in the queue no longer."""
        now_s = time.monotonic()
        for task_id in task_ids:
            ongoing = self._ongoing[task_id]
            ongoing.computing_s = ongoing.computing_s or now_s

    def drop(self, task_id: int) -> bool:
        """Forget a task.  Returns whether it was there."""
        return self._ongoing.pop(task_id, None) is not None

    def clear(self) -> None:
        """Forget all."""
        self._ongoing.clear()

    def answers(self, found: Iterable[tuple[int, Found]]) -> list[Answer]:
        """What came of texts, by task.  A task whose last text is among them is answered and forgotten."""
        shown: dict[int, list[Event]] = {}
        for task_id, event in found:
            shown.setdefault(task_id, []).extend((event, Finish("stop", event.index)))
            self._ongoing[task_id].open_count -= 1
        return [self._output(task_id, events) for task_id, events in shown.items()]

    def _output(self, task_id: int, events: list[Event]) -> Output:
        ongoing = self._ongoing[task_id]
        if ongoing.open_count:
            return Output(id=task_id, events=events)
        del self._ongoing[task_id]
        return Output(id=task_id, events=[*events, ongoing.usage(time.monotonic())], last=True)


@dataclass(eq=False)
class _Ongoing:
    """A task while a text of it is not computed.  Times are on the monotonic clock."""

    begun_s: float
    open_count: int
    prompt_count: int = 0
    computing_s: float | None = None

    def usage(self, now_s: float) -> Usage:
        started_s = now_s if self.computing_s is None else self.computing_s
        return Usage(
            self.prompt_count, 0, queue_s=started_s - self.begun_s, prefill_s=now_s - started_s, decode_s=0.0
        )
