"""How many calls a model may hold: counted from the moment they come, by what its child says of itself."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_router.backends.local import Local, LocalModel
from hybrid_router.core.backend import Load
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import QueueFull
from hybrid_router.core.step import Step, Timeouts
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.engines.task import MOST_PARALLEL, Opened
from hybrid_router.workers.child import Child
from hybrid_router.workers.protocol import Ready, framed
from hybrid_router.workers.worker import Heartbeat, Worker

SCRIPT = Path(__file__).with_name("odd_child.py")
WAITS = Timeouts(connect_s=20, load_s=20, first_token_s=20, between_tokens_s=20, total_s=20)
STEP = Step(backend="local", model="m", timeouts=WAITS, because="")
CALL = Call(id="c", operation=Operation.COMPLETE, alias="a", prompts=("x",))


class Held:
    """A backend whose one model says that it is open and nothing more, and the calls that were sent to it."""

    def __init__(self, *, parallel: int | None, opened_parallel: int, queue_count: int) -> None:
        opened = Opened(
            description="odd", context=64, parallel=opened_parallel, has_template=False, vocabulary_count=9
        )
        chosen = LlamaSettings(path="/nowhere", context=64, parallel=parallel, threads=1, prefill_chunk=64)
        self.worker = Worker(
            chosen,
            heartbeat=Heartbeat(every_s=1000.0),
            program=[sys.executable, "-I", "-S", str(SCRIPT), "is silent", framed(Ready(opened)).hex(), ""],
        )
        self.local = Local({"m": LocalModel(self.worker, queue_count)})
        self.tasks: list[asyncio.Task[None]] = []

    async def send(self, count: int) -> None:
        """So many calls at once; each gets as far as it can without the child."""
        self.tasks += [asyncio.create_task(self._ask()) for _ in range(count)]
        await asyncio.sleep(0)

    async def _ask(self) -> None:
        async with aclosing(self.local.run(CALL, STEP)) as batches:
            async for _ in batches:
                pass

    async def opened(self) -> Child:
        """The child, once it is open and every call that waited for it has been let in or not."""
        child = await self.worker.child()
        await asyncio.sleep(0)
        return child

    def refused(self) -> list[int]:
        """Which calls were told that there is no room, by their number."""
        return [
            at
            for at, task in enumerate(self.tasks)
            if task.done() and not task.cancelled() and isinstance(task.exception(), QueueFull)
        ]


@asynccontextmanager
async def held(*, parallel: int | None, opened_parallel: int, queue_count: int) -> AsyncIterator[Held]:
    """Everything is ended afterwards."""
    made = Held(parallel=parallel, opened_parallel=opened_parallel, queue_count=queue_count)
    made.worker.start(load=False)
    try:
        yield made
    finally:
        for task in made.tasks:
            task.cancel()
        await asyncio.gather(*made.tasks, return_exceptions=True)
        await made.local.close()


async def test_calls_that_wait_for_the_model_take_places() -> None:
    """The surplus is told at once, not after the load; the others are waiting, as the policy may know."""
    async with held(parallel=2, opened_parallel=2, queue_count=1) as one:
        await one.send(5)

        assert one.refused() == [3, 4]
        assert one.worker.load() == Load(running_count=2, waiting_count=1, parallel=2, loading=True)
        child = await one.opened()
        assert child.in_flight_count == 3
        assert one.worker.load() == Load(running_count=2, waiting_count=1, parallel=2)


async def test_what_the_model_says_counts_where_nobody_said_how_many() -> None:
    """`parallel: auto`: as many as may ever be are let wait for the load; then the last ones are too many."""
    async with held(parallel=None, opened_parallel=2, queue_count=1) as one:
        await one.send(MOST_PARALLEL + 3)
        assert one.refused() == [MOST_PARALLEL + 1, MOST_PARALLEL + 2]

        child = await one.opened()
        assert child.in_flight_count == 3
        assert one.refused() == list(range(3, MOST_PARALLEL + 3))


async def test_who_leaves_makes_room() -> None:
    """A call that is given up, before the model is there or later, gives its place to the next one."""
    async with held(parallel=1, opened_parallel=1, queue_count=1) as one:
        await one.send(2)
        one.tasks[0].cancel()
        await asyncio.wait(one.tasks[:1])
        await one.send(1)
        assert one.refused() == []

        child = await one.opened()
        assert child.in_flight_count == 2
        one.tasks[1].cancel()
        await asyncio.wait(one.tasks[1:2])
        await one.send(2)
        assert (child.in_flight_count, one.refused()) == (2, [4])


async def test_no_place_is_told_by_name() -> None:
    """How many are there, and what to change."""
    async with held(parallel=1, opened_parallel=1, queue_count=0) as one:
        await one.send(2)

        with pytest.raises(QueueFull, match=r"local/m has 1 calls already; raise `queue`") as caught:
            await one.tasks[1]
        assert caught.value.retry_after_s is None  # for those to say who have measured calls


@settings(max_examples=8)
@given(
    opened_parallel=st.integers(1, 4),
    queue_count=st.integers(0, 3),
    bursts=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    known=st.booleans(),
    open_at=st.integers(0, 4),
)
async def test_the_limit_is_exact(
    *, opened_parallel: int, queue_count: int, bursts: list[int], known: bool, open_at: int
) -> None:
    """Whenever calls come, before, while and after the model is opened: never one more, nor one less."""
    parallel = opened_parallel if known else None
    async with held(parallel=parallel, opened_parallel=opened_parallel, queue_count=queue_count) as one:
        for at, count in enumerate(bursts):
            if at == open_at:
                await one.opened()
            await one.send(count)
        child = await one.opened()

        assert child.in_flight_count == min(sum(bursts), opened_parallel + queue_count)
        assert len(one.refused()) == sum(bursts) - child.in_flight_count
