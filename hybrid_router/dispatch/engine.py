"""Running a plan.  The type of the exception is the decision, the timers are one `timeout_at` a wait.

A step that ends without all its `Finish` events is broken, whatever its backend thinks (I3).  A plain
call has shown its client nothing until it is whole, so there every failure may go to the next step.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

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
        try:
            timed = _timed(backend.run(call, step), row, _Waits(call, step, deadline_s))
            noted = _noted(timed, row, on_attempt)
            async with aclosing(noted if call.stream else _whole(noted)) as batches:
                async for batch in batches:
                    yield batch
        except (BackendError, ContextOverflow) as failure:
            failures.append((step, failure))
            if loop.time() >= deadline_s:
                break
        else:
            return
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


async def _whole(batches: AsyncGenerator[Batch]) -> AsyncGenerator[Batch]:
    """The whole answer as one batch, or a `BackendError`: nothing was shown, so nothing is broken."""
    gathered: Batch = []
    try:
        async with aclosing(batches):
            async for batch in batches:
                gathered += batch
    except StreamBroken as broken:
        raise BackendError(broken.message, detail=broken.detail, code=broken.code) from broken
    yield gathered


async def _noted(
    batches: AsyncGenerator[Batch], row: Attempt, on_attempt: OnAttempt
) -> AsyncGenerator[Batch]:
    """Keep an attempt's row, and report it when the attempt has ended, however it ended."""
    loop = asyncio.get_running_loop()
    try:
        async with aclosing(batches):
            async for batch in batches:
                yield batch
        row.outcome = "answered"
    except RouterError as error:
        row.outcome = _outcome(error)
        row.error, row.detail = error.code, error.detail or error.message
        raise
    finally:
        if row.outcome == "running":
            row.outcome = "cancelled"
        row.ended_s = loop.time()
        on_attempt(row)


def _outcome(error: RouterError) -> Outcome:
    """How an attempt that raised `error` ended."""
    if isinstance(error, StreamBroken):
        return "broken"
    return "refused" if isinstance(error, CallRefused) else "failed"


@dataclass(frozen=True)
class _Waits:
    """What is waited for, and how long."""

    call: Call
    step: Step
    deadline_s: float

    def first_until_s(self, started_s: float) -> float:
        return min(started_s + self.step.timeouts.first_token_s, self.deadline_s)

    def next_until_s(self, now_s: float) -> float:
        return min(now_s + self.step.timeouts.between_tokens_s, self.deadline_s)


async def _timed(batches: AsyncGenerator[Batch], row: Attempt, waits: _Waits) -> AsyncGenerator[Batch]:
    """A backend's batches under the step's timers.

    The timer runs only while the backend is waited for: a client that reads slowly is not its fault.
    """
    loop = asyncio.get_running_loop()
    until_s = waits.first_until_s(row.started_s)
    async with aclosing(batches):
        while (batch := await _next(batches, row, until_s, waits)) is not None:
            row.note(batch, loop.time())
            yield batch
            until_s = waits.next_until_s(loop.time())


async def _next(batches: AsyncGenerator[Batch], row: Attempt, until_s: float, waits: _Waits) -> Batch | None:
    """The next batch, or None after a whole answer.

    Once every choice has finished the answer is whole: what goes wrong after that is nobody's loss.
    """
    whole = row.finished_count >= waits.call.choices_count
    try:
        async with asyncio.timeout_at(until_s):
            batch = await anext(batches, None)
    except TimeoutError:
        if whole:
            return None
        raise _silence(row, waits.step, until_s) from None
    except (StreamBroken, BackendError) as error:
        if whole:
            return None
        if row.first_event_s is not None and isinstance(error, BackendError):
            raise StreamBroken(error.message, detail=error.detail, code=error.code) from error
        raise
    if batch is None and not whole:
        raise _cut(row, waits.step)
    return batch


def _silence(row: Attempt, step: Step, until_s: float) -> RouterError:
    """Name a wait that ran out."""
    waited_s = until_s - row.started_s
    if row.first_event_s is None:
        return BackendTimeout(f"{step.name} gave no token within {waited_s:.3g} s")
    return StreamBroken(
        f"{step.name} fell silent in the middle of its answer",
        code="backend_timeout",
        detail=f"after {waited_s:.3g} s",
    )


def _cut(row: Attempt, step: Step) -> RouterError:
    """Name an answer that ended too soon."""
    if row.first_event_s is None:
        return BackendError(f"{step.name} ended without an answer")
    return StreamBroken(f"{step.name} ended its answer without a finish reason")
