"""Running a plan.  The type of the exception is the decision.

A step that ends without all its `Finish` events is broken, whatever its backend thinks (I3).  A plain
call has shown its client nothing until it is whole, so there every failure may go to the next step.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing

from hybrid_router.core.backend import Backend
from hybrid_router.core.call import Call
from hybrid_router.core.errors import (
    BackendError,
    BackendTimeout,
    CallRefused,
    ContextOverflow,
    NoBackend,
    RouterError,
    StreamBroken,
)
from hybrid_router.core.event import Batch
from hybrid_router.core.step import Step
from hybrid_router.dispatch.patience import Patience
from hybrid_router.dispatch.record import Attempt, Outcome, Record

OnAttempt = Callable[[Attempt], None]


async def run(
    call: Call, record: Record, backends: Mapping[str, Backend], on_attempt: OnAttempt
) -> AsyncGenerator[Batch]:
    """Yield the answer's events, from the first step that answers.

    `on_attempt` hears of every attempt once, when it has ended.

    Raises:
        CallRefused: the call is at fault.
        BackendError: every step failed before its first event; of the last one's type, naming all.
        StreamBroken: the answering step failed later; part of the answer is out.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + record.plan.total_s
    failures: list[tuple[Step, RouterError]] = []
    for step in record.plan.steps:
        backend = backends[step.backend]
        record.ignored = tuple(sorted(call.extra.keys() - backend.extra_fields)) if call.extra else ()
        row = Attempt(backend=step.backend, model=step.model, started_s=loop.time())
        record.attempts.append(row)
        tried = _attempt(call, step, backend.run(call, step), row, deadline_s)
        try:
            async with aclosing(tried):
                if call.stream:
                    async for batch in tried:
                        yield batch
                else:
                    yield await _whole(tried)
            row.outcome = "answered"
        except RouterError as error:
            failures.append((step, _for_the_next(error, row, call)))
        else:
            return
        finally:
            if row.outcome == "running":
                row.outcome = "cancelled"
            row.ended_s = loop.time()
            on_attempt(row)
        if loop.time() >= deadline_s:
            break
    raise _summed_up(failures)


def _summed_up(failures: list[tuple[Step, RouterError]]) -> RouterError:
    """The last failure, its message naming every step's."""
    if not failures:
        return NoBackend("no backend may serve this call")
    _, last = failures[-1]
    if len(failures) > 1:
        said = "; ".join(f"{step.name}: {failure.message}" for step, failure in failures)
        last.message = f"all {len(failures)} steps failed: {said}"
    return last


async def _whole(batches: AsyncGenerator[Batch]) -> Batch:
    """The whole answer as one batch."""
    gathered: Batch = []
    async for batch in batches:
        gathered += batch
    return gathered


def _for_the_next(error: RouterError, row: Attempt, call: Call) -> RouterError:
    """Note a failure; it is returned if another step may try.

    What broke a plain answer in the middle is a failure like any other: its client saw nothing of it.

    Raises:
        RouterError: the failure, if no other step may try.
    """
    failure = error
    if isinstance(error, StreamBroken) and not call.stream:
        failure = BackendError(error.message, detail=error.detail, code=error.code)
    row.outcome = _outcome(failure)
    row.error, row.detail = failure.code, failure.detail or failure.message
    if not isinstance(failure, BackendError | ContextOverflow):
        raise failure
    return failure


def _outcome(error: RouterError) -> Outcome:
    """How an attempt that raised `error` ended."""
    if isinstance(error, StreamBroken):
        return "broken"
    return "refused" if isinstance(error, CallRefused) else "failed"


async def _attempt(
    call: Call, step: Step, batches: AsyncGenerator[Batch], row: Attempt, deadline_s: float
) -> AsyncGenerator[Batch]:
    """A backend's batches under the step's timers, counted in the attempt's row.

    Once every choice has finished the answer is whole: what goes wrong after that is nobody's loss.
    """
    loop = asyncio.get_running_loop()
    timeouts, whole = step.timeouts, False
    until_s = min(row.started_s + timeouts.first_token_s, deadline_s)
    async with aclosing(batches):
        with Patience(loop) as patience:
            while True:
                try:
                    batch = await patience.next(batches, until_s)
                except (TimeoutError, StreamBroken, BackendError) as error:
                    if whole:
                        return
                    raise _failure(error, row, step, until_s) from error
                if batch is None:
                    if whole:
                        return
                    raise _cut(row, step)
                now_s = loop.time()
                row.note(batch, now_s)
                whole = row.finished_count >= call.choices_count
                yield batch
                until_s = min(loop.time() + timeouts.between_tokens_s, deadline_s)


def _failure(error: Exception, row: Attempt, step: Step, until_s: float) -> RouterError:
    """What a failed wait means.  An adapter that errs in its type must not have the answer repeated."""
    if isinstance(error, BackendError) and row.first_event_s is not None:
        return StreamBroken(error.message, detail=error.detail, code=error.code)
    return error if isinstance(error, RouterError) else _silence(row, step, until_s)


def _silence(row: Attempt, step: Step, until_s: float) -> RouterError:
    """Name a wait that ran out."""
    waited_s = until_s - row.started_s
    if row.first_event_s is None:
        return BackendTimeout(f"{step.name} gave no token within {waited_s:.3g} s")
    return StreamBroken(
        f"{step.name} fell silent in the middle of its answer",
        code=BackendTimeout.code,
        detail=f"after {waited_s:.3g} s",
    )


def _cut(row: Attempt, step: Step) -> RouterError:
    """Name an answer that ended too soon."""
    if row.first_event_s is None:
        return BackendError(f"{step.name} ended without an answer")
    return StreamBroken(f"{step.name} ended its answer without a finish reason")
