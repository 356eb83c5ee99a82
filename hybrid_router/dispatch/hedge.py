"""A second step beside the first: whoever has content first answers, the other is let go."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from hybrid_router.core.event import Batch
from hybrid_router.dispatch.attempt import attempted
from hybrid_router.dispatch.course import Course, Turn
from hybrid_router.dispatch.record import Attempt


def raced(turn: Turn, row: Attempt, rival: Turn, course: Course) -> AsyncGenerator[Batch]:
    """The answer of `turn`, or of `rival` if that one has content first."""
    return attempted(course.call, turn.step, row, course.gate, course.deadline_s)
