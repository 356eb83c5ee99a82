"""F43 and F44: the router is told to stop, or killed, with much in flight; and what the next one finds."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from reloading import status
from router_policy import policy
from router_process import Emulator, Router, accepts, alive, free_port, soon, stopped_at_end
from wire_client import COMPLETIONS, Answer, RawCall, ask, chat_body, completion_body, raw_call

pytestmark = [pytest.mark.model, pytest.mark.timeout(60)]

STREAMS = 50
COUNT = 40
COUNTED = " ".join(str(number) for number in range(1, COUNT + 1))
NO_END = {"2": -100, "0": -100}  # the model may not end its answer
ROUNDS = 2
StartRouter = Callable[..., Router]


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """A cloud that takes two seconds to count to forty: all streams are in flight together."""
    started = Emulator(tmp_path_factory.mktemp("slow"), "--token-delay", "0.05")
    with stopped_at_end(started):
        yield started


@asynccontextmanager
async def streaming(router: Router) -> AsyncIterator[list[RawCall]]:
    """Fifty streams of the cloud's, each with its first token."""
    async with AsyncExitStack() as stack:
        body = chat_body("cloud-only", f"count to {COUNT}", stream=True)
        calls = [await stack.enter_async_context(raw_call(router, body)) for _ in range(STREAMS)]
        await asyncio.gather(*(call.pieces(2) for call in calls))  # the first comes with the role
        yield calls


async def ends(calls: list[RawCall]) -> list[Answer]:
    """What all of them have been told in the end."""
    return list(await asyncio.gather(*(call.rest() for call in calls)))


def gone(pid: int) -> bool:
    """Whether a process is no more."""
    return not alive(pid)


async def exit_code(router: Router) -> int:
    """Once there is one."""
    return await asyncio.to_thread(router.wait)


async def test_fifty_streams_may_finish(start_router: StartRouter) -> None:
    """Nobody new is let in, every stream ends whole, then the process ends with 0 and its worker with it."""
    router = start_router(drain="20s")
    worker = router.worker()
    async with streaming(router) as calls:
        router.send(signal.SIGTERM)
        await soon(lambda: not accepts(router.port), "the port is closed")
        assert alive(router.pid)
        answers = await ends(calls)

    assert [(answer.text(), answer.done) for answer in answers] == [(COUNTED, True)] * STREAMS
    assert await exit_code(router) == 0
    assert not alive(worker)
    assert [line["status"] for line in router.log() if line["event"] == "call"] == [200] * STREAMS


async def test_fifty_streams_that_go_on_are_told(start_router: StartRouter) -> None:
    """When `drain` is over each has an error in its stream, and the process still ends with 0."""
    router = start_router(drain="100ms")
    worker = router.worker()
    async with streaming(router) as calls:
        router.send(signal.SIGTERM)
        answers = await ends(calls)

    codes = [answer.error and answer.error["code"] for answer in answers]
    assert codes == ["backend_unavailable"] * STREAMS
    assert not any(answer.done for answer in answers)
    assert all(COUNTED.startswith(answer.text()) for answer in answers)
    assert await exit_code(router) == 0
    assert not alive(worker)


async def test_a_second_signal_does_not_wait_for_fifty_streams(
    start_router: StartRouter, manifest: Path, emulator: Emulator
) -> None:
    """It ends at once and says so; none claims to be whole; the folder is free for the next router."""
    router = start_router(drain="60s")
    worker = router.worker()
    async with streaming(router) as calls:
        router.send(signal.SIGTERM)
        await soon(lambda: '"event":"stopping"' in router.log_text, "it has heard the first")
        router.send(signal.SIGTERM)
        assert await exit_code(router) == 130
        assert not alive(worker)
        with suppress(ConnectionError):
            await asyncio.gather(*(call.to_the_end() for call in calls))
        assert [call for call in calls if b"[DONE]" in call.received] == []

    again = Router(policy(manifest, emulator.base_url, preload=False), router.folder)
    with stopped_at_end(again):
        assert (await status(again))["generation"] == 1
        assert "no control socket" not in again.log_text


async def test_a_call_that_waits_for_the_model_may_finish(start_router: StartRouter) -> None:
    """SIGTERM while its model loads: the load goes on, the call is answered, the process ends with 0."""
    router = start_router(preload=False)
    body = completion_body("local-only", "1, 2, 3, 4,", stream=True, max_tokens=6)
    async with raw_call(router, body, COMPLETIONS) as call:
        (worker,) = await soon(router.children, "a worker that loads")
        router.send(signal.SIGTERM)
        answer = await call.rest()

    assert (answer.done, answer.text()[:5]) == (True, " 5, 6")
    assert await exit_code(router) == 0
    assert not alive(worker)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_a_call_that_waits_too_long_is_told(start_router: StartRouter, stream: bool) -> None:
    """SIGTERM before its first token, and `drain` over: an error with a status, not a closed door."""
    router = start_router(preload=False, drain="10ms", treatment="on_break: error, retries: 0")
    body = completion_body("local-only", "1, 2, 3, 4,", stream=stream, max_tokens=6)
    async with raw_call(router, body, COMPLETIONS) as call:
        (worker,) = await soon(router.children, "a worker that loads")
        router.send(signal.SIGTERM)
        answer = await call.rest()

    assert (answer.status, answer.error and answer.error["code"]) == (503, "backend_unavailable")
    assert await exit_code(router) == 0
    assert not alive(worker)


async def decision(router: Router, decision_id: str) -> dict[str, Any] | None:
    """The record of a call, if it is known."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{router.url}/router/decisions/{decision_id}") as reply,
    ):
        assert reply.status in {200, 404}
        found: dict[str, Any] = await reply.json()
        return found if reply.status == 200 else None


def stored_count(router: Router) -> int:
    """How many records are in the file, not only on their way."""
    with closing(sqlite3.connect(f"file:{router.folder}/state/router.sqlite3?mode=ro", uri=True)) as store:
        (count,) = store.execute("SELECT count(*) FROM decisions").fetchone()
        return int(count)


async def test_a_killed_router_leaves_nothing_in_the_way(
    manifest: Path, emulator: Emulator, tmp_path: Path
) -> None:
    """Twice SIGKILL with calls in flight, in one folder, on one port.

    The worker dies; the next router has the port, the control socket and the store: whole records of what
    had ended, none of what had not.
    """
    config = policy(manifest, emulator.base_url, listen=f"127.0.0.1:{free_port()}")
    known: list[str] = []
    for number in range(ROUNDS):
        with stopped_at_end(router := Router(config, tmp_path)):
            assert (await status(router))["generation"] == 1
            for decision_id in known:
                assert (await decision(router, decision_id) or {})["outcome"] == "answered"
            answer = await ask(router, chat_body("cloud-only", f"repeat: {number}"))
            known.append(answer.headers["x-router-decision"])
            await soon(lambda: stored_count(router) == len(known), "the record is in the file")
            worker = router.worker()
            endless = chat_body("local-only", "Count.", stream=True, max_tokens=800, logit_bias=NO_END)
            async with raw_call(router, endless) as local, streaming(router):
                await local.pieces(3)
                router.popen.kill()
                await exit_code(router)
                await soon(partial(gone, worker), "the worker is gone")
        assert {"no control socket", "no store"}.isdisjoint(line["event"] for line in router.log())
        assert (tmp_path / "state" / "control.sock").exists()  # the dead one's, which the next replaces
    with closing(sqlite3.connect(tmp_path / "state" / "router.sqlite3")) as store:
        assert store.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
