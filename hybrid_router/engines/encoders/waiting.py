"""Texts that wait, and whose turn it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from hybrid_router.engines.encoders.passage import Passage

_MOST_PASSAGES = 512  # in one step, however short


class Waiting:
    """One text of each principal in turn, and of a principal's tasks in turn.

    So one long task delays no short one by more than a step, and a principal with many tasks no other.
    """

    def __init__(self) -> None:
        self._passages: dict[int, deque[Passage]] = {}  # by task, the longest first: neighbours pad little
        self._tasks: dict[str, deque[int]] = {}  # by principal, both in order of their turns

    def __bool__(self) -> bool:
        return bool(self._passages)

    def add(self, task_id: int, principal: str, passages: Iterable[Passage]) -> None:
        """Take a task's texts, of which there is at least one."""
        self._passages[task_id] = deque(sorted(passages, key=lambda one: one.length, reverse=True))
        self._tasks.setdefault(principal, deque()).append(task_id)

    def drop(self, task_id: int) -> None:
        """Forget a task; unknown ids are fine."""
        if self._passages.pop(task_id, None) is None:
            return
        principal = next(name for name, tasks in self._tasks.items() if task_id in tasks)
        self._tasks[principal].remove(task_id)
        if not self._tasks[principal]:
            del self._tasks[principal]

    def take(self, tokens_count: int) -> list[Passage]:
        """The next texts, of at most so many tokens together; at least one."""
        taken: list[Passage] = []
        while self._tasks and len(taken) < _MOST_PASSAGES:
            principal = next(iter(self._tasks))
            passages = self._passages[self._tasks[principal][0]]
            tokens_count -= passages[0].length
            if taken and tokens_count < 0:
                break
            taken.append(passages.popleft())
            self._turn(principal)
        return taken

    def _turn(self, principal: str) -> None:
        """Put its next task, and it, behind the others; what has no text left leaves."""
        tasks = self._tasks.pop(principal)
        task_id = tasks.popleft()
        if self._passages[task_id]:
            tasks.append(task_id)
        else:
            del self._passages[task_id]
        if tasks:
            self._tasks[principal] = tasks
