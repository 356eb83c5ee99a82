"""A blocked loop is noticed while it is blocked, and named."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress

from hybrid_router.observe.lag import LagWatch, Stall


async def test_a_blocked_loop_is_named_and_counted() -> None:
    """The stack of what blocks is known before it ends; one stall is one count and two words."""
    heard: list[Stall] = []
    noticed = threading.Event()
    over = asyncio.Event()

    def hear(stall: Stall) -> None:
        heard.append(stall)
        over.set() if stall.over else noticed.set()

    def block_the_loop() -> None:
        assert noticed.wait(10), "the watcher said nothing while the loop was blocked"

    watch = LagWatch(hear, threshold_s=0.05, interval_s=0.01)
    task = asyncio.create_task(watch.run())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(block_the_loop)
    await over.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

    assert [stall.over for stall in heard] == [False, True]
    assert any("block_the_loop" in place for place in heard[0].where)
    assert heard[1].where == heard[0].where
    assert watch.stalls_count == 1
    assert watch.worst_s >= heard[1].lag_s > 0.05


async def test_a_free_loop_is_left_alone() -> None:
    """Nothing is counted while the loop runs, and cancelling ends the watching thread."""
    heard: list[Stall] = []
    watch = LagWatch(heard.append, threshold_s=60, interval_s=0.001)
    task = asyncio.create_task(watch.run())
    while watch.worst_s == 0:  # noqa: ASYNC110  until a beat was measured
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

    assert not heard
    assert watch.stalls_count == 0
    assert "loop-watch" not in {thread.name for thread in threading.enumerate()}


async def test_a_stall_that_nobody_could_look_at_is_still_counted() -> None:
    """Code that holds the interpreter lock stops the watcher too; the loop itself counts afterwards."""
    heard: list[Stall] = []
    watch = LagWatch(heard.append, threshold_s=0.05, interval_s=0.01)
    task = asyncio.create_task(watch.run())
    await asyncio.sleep(0)
    watch._stopped.set()  # the watcher sees nothing any more
    time.sleep(0.2)  # noqa: ASYNC251  blocking is the point
    while not heard:  # noqa: ASYNC110
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

    assert heard[-1].over
    assert watch.stalls_count == 1
