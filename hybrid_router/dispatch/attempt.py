"""One attempt: a step's run under its timers, from asking the gate to telling it.

A step that ends without all its `Finish` events is broken, whatever its backend thinks (I3).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from hybrid_router.core.call import Call
from hybrid_router.core.errors import (
    BackendError,
    BackendTimeout,
    BrokenByCall,
    CallRefused,
    RouterError,
    StreamBroken,
)
from hybrid_router.core.event import Batch, without_remarks
from hybrid_router.core.step import Step
from hybrid_router.dispatch.gate import Gate
from hybrid_router.dispatch.patience import Patience
from hybrid_router.dispatch.record import Attempt, Outcome


async def attempted(
    call: Call, step: Step, row: Attempt, gate: Gate, deadline_s: float
) -> AsyncGenerator[Batch]:
    """A step's batches, counted in the attempt's row.

    What broke a plain answer in the middle is a failure like any other: its client saw nothing of it.

    Raises:
        CallRefused: the call is at fault.
        BackendError: nothing of it was shown to the client.
        StreamBroken: part of a streamed answer is out.
    """
    failure: RouterError | None = None
    loop = asyncio.get_running_loop()
    try:
        await gate.enter(call, step, row)
        async with aclosing(gate.run(call, step)) as batches:
            with Patience(loop) as patience:
                until_s = min(row.started_s + step.timeouts.first_token_s, deadline_s)
                while (batch := await _next(batches, patience, until_s, row, deadline_s)) is not None:
                    row.note(batch, loop.time())
                    if shown := without_remarks(batch) if row.remarks else batch:
                        yield shown
                    until_s = min(loop.time() + step.timeouts.between_tokens_s, deadline_s)
        row.outcome = "answered"
    except RouterError as error:
        failure = _seen_by_the_client(error, call)
        row.outcome = _outcome(failure)
        row.error, row.detail = failure.code, failure.detail or failure.message
        if failure is error:
            raise
        raise failure from error
    finally:
        if row.outcome == "running":
            row.outcome = "cancelled"
        row.ended_s = loop.time()
        gate.leave(call, step, row, failure)


async def _next(
    batches: AsyncGenerator[Batch], patience: Patience, until_s: float, row: Attempt, deadline_s: float
) -> Batch | None:
    """The next batch; None once the answer is whole and over.

    Once every choice has finished the answer is whole: what goes wrong after that is nobody's loss.
    """
    try:
        batch = await patience.next(batches, until_s)
    except (TimeoutError, StreamBroken, BackendError) as error:
        if row.whole:
            return None
        row.out_of_time = isinstance(error, TimeoutError) and until_s >= deadline_s
        raise _failure(error, row, until_s) from error
    if batch is None and not row.whole:
        raise _cut(row)
    return batch


def _seen_by_the_client(error: RouterError, call: Call) -> RouterError:
    if call.stream or not isinstance(error, StreamBroken):
        return error
    if isinstance(error, BrokenByCall):
        return error.refusal
    return BackendError(error.message, detail=error.detail, code=error.code)


def _outcome(error: RouterError) -> Outcome:
    """How an attempt that raised `error` ended."""
    if isinstance(error, CallRefused | BrokenByCall):
        return "refused"
    return "broken" if isinstance(error, StreamBroken) else "failed"


def _failure(error: Exception, row: Attempt, until_s: float) -> RouterError:
    """What a failed wait means.  An adapter that errs in its type must not have the answer repeated."""
    if isinstance(error, BackendError) and row.first_event_s is not None and row.streams:
        return StreamBroken(error.message, detail=error.detail, code=error.code)
    return error if isinstance(error, RouterError) else _silence(row, until_s)


def _silence(row: Attempt, until_s: float) -> RouterError:
    """Name a wait that ran out."""
    waited_s = until_s - row.started_s
    if row.first_event_s is None:
        return BackendTimeout(f"{row.step} gave no token within {waited_s:.3g} s")
    return StreamBroken(
        f"{row.step} fell silent in the middle of its answer",
        code=BackendTimeout.code,
        detail=f"after {waited_s:.3g} s",
    )


def _cut(row: Attempt) -> RouterError:
    """Name an answer that ended too soon."""
    if row.first_event_s is None:
        return BackendError(f"{row.step} ended without an answer")
    return StreamBroken(f"{row.step} ended its answer without a finish reason")
