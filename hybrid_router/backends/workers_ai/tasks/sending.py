"""Several requests of one task: for a value each, and some at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import aclosing
from itertools import islice
from typing import Any, TypeVar

from hybrid_router.backends.errand import Errand
from hybrid_router.backends.readers import JSON, Whole
from hybrid_router.backends.workers_ai.tasks.task import Send
from hybrid_router.core.event import Batch

T = TypeVar("T")


async def value(
    send: Send,
    errand: Errand,
    decode: Callable[[bytes], T],
    media_types: tuple[str, ...] = JSON,
) -> tuple[T, Batch]:
    """Send one request and read its whole reply; what was said on the way comes beside it.

    Raises:
        RouterError: as `Send` does, also where `decode` raises `Unreadable`.
    """
    found: list[T] = []
    remarks: Batch = []

    def keep(body: bytes) -> Batch:
        found.append(decode(body))
        return []

    async with aclosing(send(errand, Whole(keep, media_types))) as batches:
        async for batch in batches:
            remarks += batch
    return found[0], remarks


async def in_order(works: Iterable[Callable[[], Coroutine[Any, Any, T]]], most: int) -> AsyncGenerator[T]:
    """Do all of it, `most` pieces at a time, and yield what comes in the order of `works`.

    What is not finished when the generator is closed, or when one fails, is cancelled.
    """
    waiting = iter(works)
    running: deque[asyncio.Task[T]] = deque()
    try:
        while True:
            running += [asyncio.create_task(work()) for work in islice(waiting, most - len(running))]
            if not running:
                return
            result = await running[0]
            running.popleft()
            yield result
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def all_of(works: Iterable[Callable[[], Coroutine[Any, Any, T]]], most: int) -> list[T]:
    """The results of `in_order`, once all are there."""
    async with aclosing(in_order(works, most)) as results:
        return [result async for result in results]
