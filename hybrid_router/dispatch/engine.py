"""Running a plan.  The type of the exception is the decision, the timers are one `timeout_at` a wait.

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
from hybrid_router.dispatch.record import Attempt, Record

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
    deadline_s = asyncio.get_running_loop().time() + record.plan.total_s
    failures: list[tuple[Step, RouterError]] = []
    for step in record.plan.steps:
        try:
            tried = _attempt(call, step, backends[step.backend], deadline_s, record, on_attempt)
            async with aclosing(tried if call.stream else _whole(tried)) as batches:
                async for batch in batches:
                    yield batch
        except (BackendError, ContextOverflow) as failure:
            failures.append((step, failure))
            if asyncio.get_running_loop().time() >= deadline_s:
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


async def _attempt(
    call: Call, step: Step, backend: Backend, deadline_s: float, record: Record, on_attempt: OnAttempt
) -> AsyncGenerator[Batch]:
    """Run one step under its timers and keep its row."""
    loop = asyncio.get_running_loop()
    row = Attempt(backend=step.backend, model=step.model, started_s=loop.time())
    record.attempts.append(row)
    record.ignored = tuple(sorted(call.extra.keys() - backend.extra_fields)) if call.extra else ()
    try:
        async with aclosing(backend.run(call, step)) as batches:
            wait_until_s = min(row.started_s + step.timeouts.first_token_s, deadline_s)
            while (batch := await _next(batches, row, wait_until_s, step, call)) is not None:
                now_s = loop.time()
                row.note(batch, now_s)
                yield batch
                wait_until_s = min(loop.time() + step.timeouts.between_tokens_s, deadline_s)
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


def _outcome(error: RouterError) -> str:
    """How an attempt that raised `error` ended."""
    if isinstance(error, StreamBroken):
        return "broken"
    return "refused" if isinstance(error, CallRefused) else "failed"


async def _next(
    batches: AsyncGenerator[Batch], row: Attempt, wait_until_s: float, step: Step, call: Call
) -> Batch | None:
    """The next batch, or None after a whole answer.

    Once every choice has finished the answer is whole: what goes wrong after that is nobody's loss.
    """
    whole = row.finished_count >= call.choices_count
    try:
        async with asyncio.timeout_at(wait_until_s):
            batch = await anext(batches, None)
    except TimeoutError:
        if whole:
            return None
        raise _silence(row, step, wait_until_s) from None
    except StreamBroken:
        if whole:
            return None
        raise
    if batch is None and not whole:
        raise _cut(row, step)
    return batch


def _silence(row: Attempt, step: Step, wait_until_s: float) -> RouterError:
    """Name a wait that ran out."""
    waited_s = wait_until_s - row.started_s
    if row.first_event_s is None:
        return BackendTimeout(f"{step.name} gave no token within {waited_s:.3g} s")
    return StreamBroken(
        f"{step.name} fell silent in the middle of its answer", code="backend_timeout", detail=f"after {waited_s:.3g} s"
    )


def _cut(row: Attempt, step: Step) -> RouterError:
    """Name an answer that ended too soon."""
    if row.first_event_s is None:
        return BackendError(f"{step.name} ended without an answer")
    return StreamBroken(f"{step.name} ended its answer without a finish reason")
