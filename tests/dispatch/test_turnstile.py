"""What the calls of one router share on their way to a backend: the budget of their retries."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from hybrid_router.backends.scripted import Hang, Scripted, answer
from hybrid_router.core.backend import IDLE, Load
from hybrid_router.core.call import Call, Message, Operation
from hybrid_router.core.errors import BackendError, BackendTimeout, BackendUnavailable, QueueFull
from hybrid_router.core.step import Plan, Step, Timeouts, Treatment
from hybrid_router.dispatch.engine import run
from hybrid_router.dispatch.knowledge import Knowledge
from hybrid_router.dispatch.record import Record
from hybrid_router.dispatch.retry_budget import LEAST_COUNT
from hybrid_router.dispatch.turnstile import Turnstile
from hybrid_router.routing.speed import Sample, Speed, learned, room_s

CALLS_COUNT = 4  # one more would open the breaker
TIMEOUTS = Timeouts(connect_s=1, load_s=1, first_token_s=5, between_tokens_s=5, total_s=9)
STEP = Step(backend="cloud", model="m", timeouts=TIMEOUTS, because="listed")
CALL = Call(
    id="c",
    operation=Operation.CHAT,
    alias="a",
    messages=(Message(role="user", content="hi"),),
    stream=True,
)


async def answered(backend: Scripted, knowledge: Knowledge, *, retry_wait_s: float = 2.0) -> bool:
    """Whether a call is answered."""
    treatment = Treatment(retries=1, retry_wait_s=retry_wait_s, affinity=False)
    record = Record(id="dec_1", plan=Plan(steps=(STEP,), total_s=9, treatment=treatment))
    gate = Turnstile({"cloud": backend}, knowledge, record, lambda *row: None)
    try:
        async for _ in run(CALL, record, gate):
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


@pytest.mark.parametrize(
    ("before", "after", "breaks"),
    [
        (Load(running_count=1, parallel=1), Load(running_count=1, parallel=1), False),
        (Load(running_count=1, loading=True), Load(running_count=1, waiting_count=1, parallel=1), False),
        (Load(running_count=1, parallel=2), Load(running_count=2, parallel=2), True),
        (IDLE, IDLE, True),
    ],
    ids=["waited", "waited, as shows later", "had a place", "was alone"],
)
async def test_waiting_for_others_is_no_sign_against_a_model(before: Load, after: Load, breaks: bool) -> None:
    """Who waits behind a long task is let go in time; the model is well, and goes on being asked."""
    knowledge = Knowledge()
    hasty = replace(STEP, timeouts=replace(TIMEOUTS, first_token_s=0.02))
    for _ in range(CALLS_COUNT + 1):
        backend = Scripted([[Hang()]], local=True, busy=before)
        record = Record(id="dec_1", plan=Plan(steps=(hasty,), total_s=9))
        gate = Turnstile({"cloud": backend}, knowledge, record, lambda *row: None)
        task = asyncio.create_task(anext(run(CALL, record, gate)))
        await backend.hanging.wait()
        backend.busy = after
        with pytest.raises(BackendTimeout):
            await task

    assert (knowledge.health.snapshot() == {hasty.name: "open"}) is breaks


async def test_a_full_queue_says_when_there_will_be_room() -> None:
    """Calls took 6 s of late and three run together: one ends every 2 s, and lets one of those waiting in."""
    full = Load(running_count=3, waiting_count=9, parallel=3)
    knowledge = Knowledge()
    for retry_after_s in (None, pytest.approx(2.0)):
        backend = Scripted([[QueueFull("no room")]], local=True, busy=full)
        record = Record(id="dec_1", plan=Plan(steps=(STEP,), total_s=9))
        gate = Turnstile({"cloud": backend}, knowledge, record, lambda *row: None)

        with pytest.raises(QueueFull) as caught:
            await anext(run(CALL, record, gate))
        assert caught.value.retry_after_s == retry_after_s
        taught = Sample(at_s=0, prompt_tokens=9, completion_tokens=9, first_token_s=1, total_s=6, depth=3)
        knowledge.speeds.learn(STEP.name, taught, local=True)


def test_a_model_that_loads_has_room_after_that() -> None:
    """The load comes first; where it was never timed, nothing is promised."""
    taught = Sample(at_s=0, prompt_tokens=9, completion_tokens=9, first_token_s=1, total_s=6)
    loaded = learned(
        learned(None, taught, local=True), replace(taught, first_token_s=8, loading=True), local=True
    )

    assert room_s(loaded, Load(parallel=2, loading=True)) == pytest.approx(7 + 3)
    assert room_s(learned(None, taught, local=True), Load(parallel=2, loading=True)) is None
    assert room_s(Speed(), Load(parallel=2)) is None
