"""The worker is killed: F01 and F02 with the real model, by SIGKILL."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from invariants import assert_invariants
from router_policy import policy
from router_process import POLL_S, Emulator, Router, cpu_s, soon, stopped_at_end
from wire_client import COMPLETIONS, PROMPT_CANARY, ask, chat_body, completion_body, raw_call

pytestmark = [pytest.mark.model, pytest.mark.timeout(60)]

SAID = f"{PROMPT_CANARY}: count to 5"
CLOUD_TEXT = "1 2 3 4 5"
# Seconds of prefill: nobody gets a token of it before the worker is killed.
LONG = f"{PROMPT_CANARY} " + "and so on, " * 220 + "count to 5"
BUSY_CPU_S = 0.1
NO_END = {"2": -100, "0": -100}  # the model may not end its answer


def killed(pid: int) -> None:
    """SIGKILL a worker."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def busy(pid: int, since_s: float) -> None:
    """Wait until a worker has computed something, which nobody announces."""
    await soon(lambda: cpu_s(pid) > since_s + BUSY_CPU_S, "the worker computes")


@pytest.fixture
def router(manifest: Path, emulator: Emulator, tmp_path: Path) -> Iterator[Router]:
    """A service of each test's own: a worker that dies often is started again later and later."""
    emulator.calm()
    started = Router(policy(manifest, emulator.base_url, prefill_chunk=16), tmp_path)
    with stopped_at_end(started):
        yield started


async def serves_again(router: Router) -> None:
    """The next call gets an answer of the worker's, which is another one now."""
    await soon(router.children, "a new worker")
    again = await ask(router, completion_body("local-only", "1, 2, 3, 4,", max_tokens=5), COMPLETIONS)
    assert again.text().startswith(" 5, 6")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_killed_in_prefill_the_next_step_answers(router: Router, stream: bool) -> None:
    """Before the first token the cloud takes over, whole; the worker is there again for the next call."""
    before = await router.quiet()
    worker = router.worker()
    since_s = cpu_s(worker)
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(ask(router, chat_body("local-first", LONG, stream=stream)))
        await busy(worker, since_s)
        killed(worker)
    answer = asked.result()

    assert (answer.text(), answer.error) == (CLOUD_TEXT, None)
    assert answer.served_by == ("cloudflare", "2")
    first, second = await assert_invariants(router, before, [answer])
    assert (first["outcome"], first["error"]) == ("failed", "backend_unavailable")
    assert second["outcome"] == "answered"
    assert router.worker() != worker
    await serves_again(router)


@pytest.mark.parametrize("token_count", [1, 2, 5, 12])
async def test_killed_in_the_middle_a_stream_ends_in_band(router: Router, token_count: int) -> None:
    """What was said is a prefix of the whole, then one error, no `[DONE]`, no second step."""
    body = chat_body("local-first", "Count to a hundred.", stream=True, max_tokens=100)
    whole = await ask(router, body)
    before = await router.quiet()
    worker = router.worker()
    async with raw_call(router, body) as call:
        await call.pieces(1 + token_count)  # the first comes with the role
        killed(worker)
        answer = await call.rest()

    assert answer.error is not None
    assert len(answer.text()) > 0
    assert whole.text().startswith(answer.text())
    (attempt,) = await assert_invariants(router, before, [answer])
    assert (attempt["outcome"], attempt["error"]) == ("broken", "stream_broken")
    await serves_again(router)


async def test_killed_in_the_middle_a_plain_call_is_answered(router: Router) -> None:
    """A plain call has seen nothing, so the cloud answers it whole, and others do not notice."""
    before = await router.quiet()
    worker = router.worker()
    since_s = cpu_s(worker)
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(
            ask(router, chat_body("local-first", SAID, max_tokens=500, logit_bias=NO_END))
        )
        other = group.create_task(ask(router, chat_body("cloud-only", "count to 150", stream=True)))
        await busy(worker, since_s)
        killed(worker)
    answer = asked.result()

    assert (answer.text(), answer.served_by) == (CLOUD_TEXT, ("cloudflare", "2"))
    assert other.result().text() == " ".join(str(number) for number in range(1, 151))
    await assert_invariants(router, before, [answer, other.result()])
    await serves_again(router)


async def test_every_call_of_a_killed_worker_is_told(router: Router) -> None:
    """Two that stream and one that waits for a place: the first two end in-band, the third elsewhere."""
    before = await router.quiet()
    worker = router.worker()
    body = chat_body("local-first", SAID, stream=True, max_tokens=500, logit_bias=NO_END)
    async with raw_call(router, body) as first, raw_call(router, body) as second:
        await asyncio.gather(first.pieces(2), second.pieces(2))
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(ask(router, chat_body("local-first", SAID)))
            await soon(lambda: router.connections() == 3, "the third call's connection")
            killed(worker)
        answers = [await first.rest(), await second.rest(), waiting.result()]

    assert [answer.error is not None for answer in answers] == [True, True, False]
    assert answers[2].served_by == ("cloudflare", "2")
    await assert_invariants(router, before, answers)
    await serves_again(router)


@pytest.fixture
def late_router(manifest: Path, emulator: Emulator, tmp_path: Path) -> Iterator[Router]:
    """A service that loads its model at the first call."""
    emulator.calm()
    started = Router(policy(manifest, emulator.base_url, preload=False), tmp_path)
    with stopped_at_end(started):
        yield started


async def attempts_told(router: Router, count: int) -> list[tuple[str, str]]:
    """Backend and outcome of each attempt, once so many are logged."""

    def look() -> list[tuple[str, str]]:
        lines = [line for line in router.log() if line["event"] == "attempt"]
        return [(line["backend"], line["outcome"]) for line in lines] if len(lines) >= count else []

    return await soon(look, f"{count} attempts in the log")


async def test_killed_once_at_load_it_is_loaded_again(late_router: Router) -> None:
    """The first failure costs its caller a load and no more."""
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(ask(late_router, chat_body("local-first", SAID, max_tokens=4)))
        killed((await soon(late_router.children, "a worker that loads"))[0])

    assert asked.result().served_by == ("local", "1")
    assert await attempts_told(late_router, 1) == [("local", "answered")]


async def test_killed_at_every_load_the_next_step_answers(late_router: Router) -> None:
    """When loads go on failing, the call does not wait for the next; later the model serves again."""
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(ask(late_router, chat_body("local-first", SAID)))
        while not asked.done():
            for worker in late_router.children():
                killed(worker)
            await asyncio.sleep(POLL_S)

    assert (asked.result().text(), asked.result().served_by) == (CLOUD_TEXT, ("cloudflare", "2"))
    await serves_again(late_router)
    told = await attempts_told(late_router, 3)
    assert told == [("local", "failed"), ("cloudflare", "answered"), ("local", "answered")]
