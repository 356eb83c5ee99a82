"""Batches: cut to size, waited for with patience, and given up at their deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_cloud import ACCOUNT, TOKEN, Reply, Upstream, listening, plain

from hybrid_router.backends.workers_ai import queue
from hybrid_router.backends.workers_ai.desk import Desk
from hybrid_router.backends.workers_ai.queue import Ticket
from hybrid_router.config.backend_schema import SecretSource
from hybrid_router.config.cloud_schema import Gateway, WorkersAIBackend
from hybrid_router.core.errors import BackendError, BackendTimeout, RouterError
from hybrid_router.core.secret import Secret
from hybrid_router.emulator.server import serve
from hybrid_router.emulator.settings import Settings

M3 = "@cf/baai/bge-m3"
TICKET = Ticket(model=M3, request_id="r1", count=2)


def told(result: object) -> Reply:
    """An envelope."""
    return plain({"result": result, "success": True, "errors": [], "messages": []})


@asynccontextmanager
async def asked(*replies: Reply) -> AsyncIterator[tuple[Desk, Upstream]]:
    """An account that says what it is told to say; its backend has a gateway, which is passed by."""
    upstream = Upstream(list(replies))
    async with listening(upstream.serve) as port:
        config = WorkersAIBackend(
            account_id=ACCOUNT,
            token=SecretSource(),
            base_url=f"http://127.0.0.1:{port}/client/v4",
            gateway=Gateway(id="g", through="host", base_url="http://127.0.0.1:1/v1"),
        )
        async with Desk(config, ACCOUNT, Secret(TOKEN)) as desk:
            yield desk, upstream


class Slept:
    """Waits that take no time and are noted."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    async def __call__(self, wait_s: float) -> None:
        self.waits.append(wait_s)
        await asyncio.sleep(0)


async def test_a_batch_is_put_in_and_asked_for_until_it_is_done() -> None:
    """Against the emulated account, which lets it wait: the answers come in the inputs' order."""
    async with serve(Settings(queue_polls=3)) as running:
        config = WorkersAIBackend(
            account_id=running.account_id, token=SecretSource(), base_url=running.base_url
        )
        states: list[str] = []
        async with Desk(config, running.account_id, Secret(running.token)) as desk:
            ((first, some),) = queue.pieces([b'{"text":"a"}', b'{"text":["b","c"]}'])
            ticket = await queue.put(desk, M3, some, first)
            answers = await queue.waited(desk, ticket, within_s=30, progress=states.append, sleep=Slept())

    assert states == ["queued", "queued", "running", "done"]
    assert [(each.id, each.success) for each in answers] == [(0, True), (1, True)]


async def test_it_asks_less_and_less_often() -> None:
    """Longer waits up to the longest."""
    slept = Slept()
    waiting = [told({"status": "queued", "request_id": "r1"})] * 12
    async with asked(*waiting, told({"responses": [{"id": 1}, {"id": 0}]})) as (desk, upstream):
        answers = await queue.waited(desk, TICKET, within_s=30, sleep=slept)

    assert slept.waits[:3] == [1.0, 1.5, 2.25]
    assert slept.waits[-1] == queue.LONGEST_WAIT_S
    assert [each.id for each in answers] == [0, 1]
    assert upstream.requests[0][0].endswith(f"/accounts/{ACCOUNT}/ai/run/{M3}?queueRequest=true HTTP/1.1")
    assert upstream.requests[0][2] == {"request_id": "r1"}


async def test_a_batch_is_given_up_at_the_deadline() -> None:
    """With its id, since it runs on."""

    async def forever(wait_s: float) -> None:
        await asyncio.Event().wait()

    async with asked(told({"status": "running"})) as (desk, _):
        with pytest.raises(BackendTimeout, match="batch r1 was not done"):
            await queue.waited(desk, TICKET, within_s=0.05, sleep=forever)


async def test_waiting_can_be_cancelled() -> None:
    """At once, whatever it waits for."""
    sleeping = asyncio.Event()

    async def forever(wait_s: float) -> None:
        sleeping.set()
        await asyncio.Event().wait()

    async with asked(told({"status": "running"})) as (desk, _):
        task = asyncio.create_task(queue.waited(desk, TICKET, within_s=30, sleep=forever))
        await sleeping.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_moment_without_the_account_loses_no_batch() -> None:
    """No capacity, a gateway timeout: it is asked again, and that is told."""
    busy = plain({"success": False, "errors": [{"code": 3040, "message": "busy"}]}, "429 Too Many Requests")
    down = plain(b"<html>", "504 Gateway Timeout")
    states: list[str] = []
    async with asked(busy, down, told({"responses": [{"id": 0}]})) as (desk, _):
        await queue.waited(desk, TICKET, within_s=30, progress=states.append, sleep=Slept())

    assert ["not to be asked just now" in state for state in states] == [True, True, False]


async def test_an_unknown_batch_is_not_waited_for() -> None:
    """The account's refusal ends it."""
    unknown = plain({"success": False, "errors": [{"code": 5006, "message": "no batch"}]}, "400 Bad Request")
    async with asked(unknown) as (desk, upstream):
        with pytest.raises(RouterError, match="no batch"):
            await queue.waited(desk, TICKET, within_s=30, sleep=Slept())

    assert len(upstream.requests) == 1


@pytest.mark.parametrize("result", [{"status": "failed"}, {}, [1], {"responses": 3}])
async def test_a_state_that_is_none_ends_it(result: object) -> None:
    """Rather than waiting for ever for a word that nobody knows."""
    async with asked(told(result)) as (desk, _):
        with pytest.raises(BackendError):
            await queue.waited(desk, TICKET, within_s=30, sleep=Slept())


@given(st.lists(st.integers(2, 40), max_size=12))
def test_inputs_are_cut_into_batches_in_their_order(sizes: list[int]) -> None:
    """Each small enough and none empty; together they are all there were, each at its place."""
    inputs = [b"x" * size for size in sizes]

    cut = list(queue.pieces(inputs, 100))

    assert [bytes(each) for _, some in cut for each in some] == inputs
    place = 0
    for first, some in cut:
        assert first == place
        assert 0 < sum(len(bytes(each)) for each in some) <= 100
        place += len(some)


def test_an_input_that_fits_into_no_batch_is_named() -> None:
    """By its place."""
    with pytest.raises(queue.TooLarge, match="input 2 has"):
        list(queue.pieces([b"{}", b"x" * (queue.MOST_BYTES + 1)]))
