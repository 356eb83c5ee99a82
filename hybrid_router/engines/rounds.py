"""Whose step is next, where several tasks may be under way at once.  Pure: tasks are numbers here."""

from __future__ import annotations

from collections import deque


class Rounds:
    """Tasks that wait or are under way, each of a principal.

    A step goes to each principal in turn, and to each of its tasks that are under way in turn: so a short
    task ends a few steps after it began, however long the others are.

    A free place goes to the principal with the fewest tasks under way, among equals to the one that got
    none for longest; within a principal to what came first.  Where several tasks go together there is one
    place more than `together`, for a principal with none under way: so no principal's long tasks keep
    another's short one waiting.
    """

    def __init__(self, together: int) -> None:
        self._together = together
        self._waiting: dict[str, deque[int]] = {}  # by principal, who got no place for longest first
        self._under_way: dict[str, deque[int]] = {}  # by principal, both in order of their turns

    def __bool__(self) -> bool:
        return bool(self._waiting) or bool(self._under_way)

    @property
    def under_way(self) -> frozenset[int]:
        """The tasks that have begun."""
        return frozenset(number for numbers in self._under_way.values() for number in numbers)

    def add(self, number: int, principal: str) -> None:
        """A task that waits from now on."""
        self._waiting.setdefault(principal, deque()).append(number)

    def drop(self, number: int) -> None:
        """Forget a task; unknown ones are fine."""
        for by_principal in (self._waiting, self._under_way):
            for principal, numbers in by_principal.items():
                if number in numbers:
                    numbers.remove(number)
                    if not numbers:
                        del by_principal[principal]
                    return

    def take(self) -> int:
        """The task whose step is next; there is at least one.  It stays until it is dropped."""
        while (principal := self._next_in()) is not None:
            self._let_in(principal)
        principal = next(iter(self._under_way))
        numbers = self._under_way.pop(principal)
        number = numbers.popleft()
        numbers.append(number)
        self._under_way[principal] = numbers  # behind the others
        return number

    def _next_in(self) -> str | None:
        """Who gets a place now; None: there is none to give."""
        if not self._waiting:
            return None
        principal = min(self._waiting, key=self._count)
        count = sum(map(len, self._under_way.values()))
        extra = self._together > 1 and self._count(principal) == 0
        return principal if count < self._together + extra else None

    def _count(self, principal: str) -> int:
        return len(self._under_way.get(principal, ()))

    def _let_in(self, principal: str) -> None:
        """Its next task is under way."""
        numbers = self._waiting.pop(principal)
        self._under_way.setdefault(principal, deque()).append(numbers.popleft())
        if numbers:
            self._waiting[principal] = numbers  # behind the others
