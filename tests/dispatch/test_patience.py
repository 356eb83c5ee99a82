"""One timer for many waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from hybrid_router.core.event import Batch, Text
from hybrid_router.dispatch.patience import Patience

SOON_S = 0.03
BATCH: Batch = [Text("x")]


async def silent() -> AsyncGenerator[Batch]:
    await asyncio.get_running_loop().create_future()
    yield []


async def stubborn() -> AsyncGenerator[Batch]:
    """Swallows its cancellation, as no adapter should."""
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        yield BATCH


async def endless() -> AsyncGenerator[Batch]:
    while True:
        yield BATCH


async def test_silence_ends_at_the_limit_and_leaves_the_task_alone() -> None:
    """The cancellation is ours: it is taken back, and the task goes on."""
    loop = asyncio.get_running_loop()
    with Patience(loop) as patience, pytest.raises(TimeoutError):
        await patience.next(silent(), loop.time() + SOON_S)

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_swallowed_cancellation_is_a_timeout_all_the_same() -> None:
    """Late is late."""
    loop = asyncio.get_running_loop()
    with Patience(loop) as patience, pytest.raises(TimeoutError):
        await patience.next(stubborn(), loop.time() + SOON_S)

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_cancellation_from_outside_goes_on() -> None:
    """It is not turned into a timeout."""
    loop = asyncio.get_running_loop()
    waiting = asyncio.Event()

    async def wait() -> None:
        with Patience(loop) as patience:
            waiting.set()
            await patience.next(silent(), loop.time() + 60)

    task = asyncio.create_task(wait())
    await waiting.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_later_limit_moves_the_alarm() -> None:
    """The alarm of an earlier wait does not end a later one with more time."""
    loop = asyncio.get_running_loop()
    batches = endless()
    with Patience(loop) as patience:
        assert await patience.next(batches, loop.time() + SOON_S) == BATCH
        started_s = loop.time()
        with pytest.raises(TimeoutError):
            await patience.next(silent(), started_s + 4 * SOON_S)
        assert loop.time() - started_s >= 4 * SOON_S - 0.001
    await batches.aclose()


async def test_an_earlier_limit_moves_it_too() -> None:
    """A wait with less time is not held to the alarm of the one before."""
    loop = asyncio.get_running_loop()
    batches = endless()
    with Patience(loop) as patience:
        assert await patience.next(batches, loop.time() + 60) == BATCH
        with pytest.raises(TimeoutError):
            await patience.next(silent(), loop.time() + SOON_S)
    await batches.aclose()


async def test_time_between_waits_does_not_count() -> None:
    """While the client reads, the backend is not late."""
    loop = asyncio.get_running_loop()
    batches = endless()
    with Patience(loop) as patience:
        assert await patience.next(batches, loop.time() + SOON_S) == BATCH
        rung = loop.create_future()
        loop.call_at(loop.time() + 2 * SOON_S, rung.set_result, None)
        await rung
        assert await patience.next(batches, loop.time() + SOON_S) == BATCH
    await batches.aclose()


async def test_nobody_waits_without_a_task() -> None:
    """A bare callback has nothing that could be cancelled."""
    loop = asyncio.get_running_loop()
    said = loop.create_future()

    def try_it() -> None:
        try:
            Patience(loop).next(endless(), loop.time()).send(None)
        except RuntimeError as error:
            said.set_result(str(error))

    loop.call_soon(try_it)

    assert "by a task" in await said
