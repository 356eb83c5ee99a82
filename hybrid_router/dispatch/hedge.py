"""A second step beside the first: whoever has content first answers, the other is let go.

An error, or a batch that says nothing yet, wins nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from hybrid_router.core.errors import RouterError
from hybrid_router.core.event import Batch, Finish, Progress, Remark, Usage
from hybrid_router.dispatch.attempt import attempted
from hybrid_router.dispatch.course import Course, Turn
from hybrid_router.dispatch.record import Attempt


class Contender:
    """One of the two: its attempt, and the reading of its answer's beginning."""

    __slots__ = ("batches", "opening", "row", "turn")

    def __init__(self, turn: Turn, row: Attempt, course: Course) -> None:
        self.turn = turn
        self.row = row
        self.batches = attempted(course.call, turn.step, row, course.gate, course.deadline_s)
        self.opening = asyncio.create_task(_opening(self.batches))

    @property
    def error(self) -> RouterError | None:
        """Why it lost before it began; None if it has content, or is still at it."""
        if not self.opening.done() or self.opening.cancelled():
            return None
        error = self.opening.exception()
        if error is not None and not isinstance(error, RouterError):
            raise error
        return error

    async def let_go(self) -> None:
        """Cancel what it does.  Returns when its backend is released."""
        self.opening.cancel()
        await asyncio.wait((self.opening,))
        if not self.opening.cancelled():
            self.opening.exception()  # a loser's error is in its row
        await self.batches.aclose()


async def raced(turn: Turn, row: Attempt, rival: Turn, course: Course) -> AsyncGenerator[Batch]:
    """The answer of `turn`, or of `rival` if that one has content first.

    The rival starts when the first is slower than nine of ten calls.

    Raises:
        RouterError: neither answered; the last one's.  `course.running` says whose it is.
    """
    contenders = [Contender(turn, row, course)]
    try:
        await asyncio.wait((contenders[0].opening,), timeout=_delay_s(turn))
        if not contenders[0].opening.done():
            rival_row = course.begin_beside(rival, asyncio.get_running_loop().time())
            contenders.append(Contender(rival, rival_row, course))
        winner = await _winner(contenders, course)
        for loser in contenders:
            if loser is not winner:
                await loser.let_go()
        course.answers(winner.turn, winner.row)
        for batch in winner.opening.result():
            yield batch
        async for batch in winner.batches:
            yield batch
    finally:
        for contender in contenders:
            await contender.let_go()


def _delay_s(turn: Turn) -> float:
    predicted = turn.step.predicted
    if predicted is None or predicted.first_token_p90_s is None:
        raise ValueError("a step is hedged only once it is known how long it takes")
    return predicted.first_token_p90_s


async def _winner(contenders: list[Contender], course: Course) -> Contender:
    """The first with content.

    Raises:
        RouterError: they all failed; the last one's.
    """
    racing = list(contenders)
    while True:
        await asyncio.wait([one.opening for one in racing], return_when=asyncio.FIRST_COMPLETED)
        for one in [one for one in racing if one.opening.done()]:
            error = one.error
            if error is None:
                return one
            racing.remove(one)
            if not racing:
                course.answers(one.turn, one.row)
                raise error
            course.lost(one.turn, error)


async def _opening(batches: AsyncGenerator[Batch]) -> list[Batch]:
    """What comes up to the first content, or to the end of an answer that has none."""
    read: list[Batch] = []
    async for batch in batches:
        read.append(batch)
        if any(not isinstance(event, Finish | Progress | Remark | Usage) for event in batch):
            break
    return read
