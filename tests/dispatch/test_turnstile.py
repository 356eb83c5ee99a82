"""What the calls of one router share on their way to a backend: the budget of their retries."""

from __future__ import annotations

import asyncio

from hybrid_router.backends.scripted import Scripted, answer
from hybrid_router.core.call import Call, Message, Operation
from hybrid_router.core.errors import BackendError, BackendUnavailable
from hybrid_router.core.step import Plan, Step, Timeouts, Treatment
from hybrid_router.dispatch.engine import run
from hybrid_router.dispatch.knowledge import Knowledge
from hybrid_router.dispatch.record import Record
from hybrid_router.dispatch.retry_budget import LEAST_COUNT
from hybrid_router.dispatch.turnstile import Turnstile

CALLS_COUNT = 4  # one more would open the breaker
TIMEOUTS = Timeouts(connect_s=1, load_s=1, first_token_s=5, between_tokens_s=5, total_s=9)
STEP = Step(backend="cloud", model="m", timeouts=TIMEOUTS, because="listed")


async def answered(backend: Scripted, knowledge: Knowledge, *, retry_wait_s: float = 2.0) -> bool:
    """Whether a call is answered."""
    call = Call(
        id="c",
        operation=Operation.CHAT,
        alias="a",
        messages=(Message(role="user", content="hi"),),
        stream=True,
    )
    treatment = Treatment(retries=1, retry_wait_s=retry_wait_s, affinity=False)
    record = Record(id="dec_1", plan=Plan(steps=(STEP,), total_s=9, treatment=treatment))
    gate = Turnstile({"cloud": backend}, knowledge, record, lambda *row: None)
    try:
        async for _ in run(call, record, gate):
            pass
    except BackendError:
        return False
    return True


def down_at_first(advice_s: float = 0.02) -> Scripted:
    """Refuses each of the calls once and says when to come back, before it answers."""
    down = BackendUnavailable("down", retry_after_s=advice_s)
    return Scripted([*([[down]] * CALLS_COUNT), answer("yes")])


async def test_a_retry_that_waits_has_its_place_in_the_budget() -> None:
    """Refused in the same instant, told to come back in the same: three do, however short they stay."""
    backend, knowledge = down_at_first(), Knowledge()

    told = await asyncio.gather(*(answered(backend, knowledge) for _ in range(CALLS_COUNT)))

    assert told.count(True) == LEAST_COUNT
    assert len(backend.runs) == CALLS_COUNT + LEAST_COUNT
    assert (knowledge.retries.calls_count, knowledge.retries.retries_count) == (0, 0)


async def test_a_client_that_leaves_while_its_retry_waits_gives_the_place_back() -> None:
    """Nothing of it is left in the budget."""
    backend, knowledge = down_at_first(advice_s=2.0), Knowledge()
    task = asyncio.create_task(answered(backend, knowledge))
    while knowledge.retries.retries_count == 0 and not task.done():  # noqa: ASYNC110 - nobody announces it
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert (knowledge.retries.calls_count, knowledge.retries.retries_count) == (0, 0)
