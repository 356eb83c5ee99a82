"""Running a plan: one step after the other until the client has a whole answer.

The type of an error is the decision, see `core.errors`; what it means for the rest is `Course`'s.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing

from hybrid_router.core.call import Call
from hybrid_router.core.errors import RouterError, StreamBroken
from hybrid_router.core.event import Batch
from hybrid_router.dispatch import continuation, hedge
from hybrid_router.dispatch.align import Aligner, Diverged
from hybrid_router.dispatch.attempt import attempted
from hybrid_router.dispatch.continuation import Interrupted
from hybrid_router.dispatch.course import Course, Turn
from hybrid_router.dispatch.gate import Gate
from hybrid_router.dispatch.record import Attempt, Record


async def run(call: Call, record: Record, gate: Gate) -> AsyncGenerator[Batch]:
    """Yield the answer's events, whichever steps they come from.

    Raises:
        RouterError: `record.refusal`, if nothing may run.
        CallRefused: the call is at fault.
        BackendError: every step failed before its first event; of the last one's type, naming all.
        StreamBroken: part of the answer is out, and nobody could go on with it.
    """
    if record.refusal is not None:
        raise record.refusal
    loop = asyncio.get_running_loop()
    course = Course(call, record, gate, loop.time() + record.plan.total_s)
    gate.begin()
    try:
        while (turn := course.next(loop.time())) is not None:
            if turn.pause_s:
                await asyncio.sleep(turn.pause_s)
            try:
                async with aclosing(_batches(turn, course, loop.time())) as batches:
                    if call.stream:
                        async for batch in batches:
                            course.shown.append(batch)
                            yield batch
                    else:
                        yield await _whole(batches)
            except RouterError as error:
                course.failed(error, loop.time(), random.random())  # noqa: S311 - jitter
            else:
                course.note_part()
                return
    finally:
        gate.end()
    raise course.over()


def _batches(turn: Turn, course: Course, now_s: float) -> AsyncGenerator[Batch]:
    """What a turn adds to the answer."""
    call, gate, row = course.call, course.gate, course.begin(turn, now_s)
    rival = course.rival(turn)
    if rival is not None:
        return hedge.raced(turn, row, rival, course)
    interrupted = course.interrupted
    if interrupted is None:
        return attempted(call, turn.step, row, gate, course.deadline_s)
    taken_up = continuation.taken_up(call, interrupted, turn.mode)
    batches = attempted(taken_up, turn.step, row, gate, course.deadline_s)
    if turn.mode == "prefill":
        return _continued(batches, interrupted)
    aligner = continuation.aligner(call, interrupted, course.record.plan.treatment)
    return _replayed(batches, interrupted, aligner, row)


async def _continued(batches: AsyncGenerator[Batch], interrupted: Interrupted) -> AsyncGenerator[Batch]:
    """The rest of an answer, from a backend that went on where it broke."""
    async with aclosing(batches):
        async for batch in batches:
            if new := continuation.without_opening(batch, interrupted):
                yield new


async def _replayed(
    batches: AsyncGenerator[Batch], interrupted: Interrupted, aligner: Aligner, row: Attempt
) -> AsyncGenerator[Batch]:
    """The rest of an answer, from a backend that gave it again from the start."""
    async with aclosing(batches):
        async for batch in batches:
            try:
                new = aligner.feed(continuation.without_opening(batch, interrupted))
            except Diverged as diverged:
                row.diverged_at_char = diverged.at_char
                row.outcome, row.error, row.detail = "broken", "diverged", str(diverged)
                raise StreamBroken(
                    f"{row.backend}/{row.model} gave another answer than the one that broke off",
                    detail=str(diverged),
                ) from diverged
            row.diverged_at_char = aligner.diverged_at_char
            if new:
                yield new


async def _whole(batches: AsyncGenerator[Batch]) -> Batch:
    """The whole answer as one batch."""
    gathered: Batch = []
    async for batch in batches:
        gathered += batch
    return gathered
