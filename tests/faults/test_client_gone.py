"""The client leaves with a RST: F27 in each phase, F28 beside a neighbour, with the real model."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from invariants import assert_invariants
from reloading import metric
from router_policy import policy
from router_process import POLL_S, Emulator, Level, Router, cpu_s, soon, stopped_at_end
from wire_client import COMPLETIONS, PROMPT_CANARY, Answer, ask, chat_body, completion_body, raw_call

pytestmark = [pytest.mark.model, pytest.mark.timeout(60)]

COUNTED = "1, 2, 3, 4, 5, 6, 7,"
NEXT = " 8, 9, 10, 11, "
LONG = "and so on, " * 220
NO_END = {"2": -100, "0": -100}  # the model may not end its answer
ENDLESS: dict[str, Any] = {"max_tokens": 900, "logit_bias": NO_END}
FINISH_LINE = 5  # of the cloud's `count to 3`: the role, three tokens, the finish
BUSY_CPU_S = 0.1
IDLE_S = 0.2
# Far below what the rest of a 900-token prompt or of 900 tokens of answer costs on any machine.
LEFT_CPU_S = 0.6


@pytest.fixture(scope="module")
def narrow(manifest: Path, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """One call at a time, and none may wait."""
    config = policy(manifest, emulator.base_url, parallel=1, queue=0, prefill_chunk=16)
    started = Router(config, tmp_path_factory.mktemp("narrow"))
    with stopped_at_end(started):
        started.loaded()
        yield started


@pytest.fixture(scope="module")
def queueing(
    manifest: Path, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Router]:
    """Two decode together, one may wait."""
    config = policy(manifest, emulator.base_url, parallel=2, queue=1, prefill_chunk=16)
    started = Router(config, tmp_path_factory.mktemp("queueing"))
    with stopped_at_end(started):
        started.loaded()
        yield started


def fresh_long() -> str:
    """A long prompt that was never computed: what was is kept."""
    return f"{PROMPT_CANARY} {uuid4()} {LONG}"


def short() -> dict[str, object]:
    """A call that is over soon."""
    return completion_body("local-only", COUNTED, max_tokens=15)


def endless() -> dict[str, object]:
    """A stream that goes on until the context is full."""
    return completion_body("local-only", f"{PROMPT_CANARY} {COUNTED}", stream=True, **ENDLESS)


async def answered(router: Router) -> tuple[Answer, list[Answer]]:
    """Ask until the worker has room; the answer, and the refusals before it."""
    refused: list[Answer] = []
    while True:
        answer = await ask(router, short(), COMPLETIONS)
        if answer.status == 200:
            return answer, refused
        assert (answer.status, answer.error and answer.error["code"]) == (429, "rate_limit_exceeded")
        assert int(answer.headers["retry-after"]) >= 1
        refused.append(answer)
        assert len(refused) < 1000


async def idle(pid: int) -> None:
    """Wait until a worker no longer computes: it used no processor time in a while."""
    used_s = -1.0
    while used_s != cpu_s(pid):
        used_s = cpu_s(pid)
        await asyncio.sleep(IDLE_S)


def events(router: Router, since: Level) -> list[str]:
    """What was logged, by name."""
    return [str(line["event"]) for line in router.log(since)]


def next_worker(router: Router, before: int) -> int | None:
    """The process that comes after another, once it runs a program of its own."""
    for pid in router.children():
        if pid != before and b"workers.main" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    return None


async def assert_stopped(router: Router, worker: int, at_s: float) -> None:
    """The worker, left at `at_s` of its processor time, stopped far before the end of the work."""
    await idle(worker)
    assert cpu_s(worker) - at_s < LEFT_CPU_S


def outcomes(attempts: list[dict[str, object]]) -> list[str]:
    """How the attempts ended, refusals for want of room left out."""
    return [str(line["outcome"]) for line in attempts if line.get("error") != "rate_limit_exceeded"]


async def test_gone_while_decoding(narrow: Router) -> None:
    """The slot is free for the next call, the worker stops computing, the log says cancelled."""
    before = await narrow.quiet()
    worker = narrow.worker()
    async with raw_call(narrow, endless(), COMPLETIONS) as leaving:
        await leaving.pieces(12)
        (busy,) = [await ask(narrow, short(), COMPLETIONS)]
        assert busy.status == 429
        at_s = cpu_s(worker)
        leaving.reset()
        await assert_stopped(narrow, worker, at_s)
    answer, refused = await answered(narrow)

    assert answer.text().startswith(NEXT)
    attempts = await assert_invariants(narrow, before, [busy, *refused, answer], left_count=1)
    assert outcomes(attempts) == ["cancelled", "answered"]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_gone_in_prefill(narrow: Router, stream: bool) -> None:
    """A long prompt is not computed to its end for nobody."""
    before = await narrow.quiet()
    worker = narrow.worker()
    since_s = cpu_s(worker)
    body = completion_body("local-only", fresh_long(), stream=stream, **ENDLESS)
    async with raw_call(narrow, body, COMPLETIONS) as leaving:
        await soon(lambda: cpu_s(worker) > since_s + BUSY_CPU_S, "the worker computes")
        assert leaving.received == b""
        busy = await ask(narrow, short(), COMPLETIONS)
        assert busy.status == 429
        at_s = cpu_s(worker)
        leaving.reset()
        await assert_stopped(narrow, worker, at_s)
    answer, refused = await answered(narrow)

    assert answer.text().startswith(NEXT)
    attempts = await assert_invariants(narrow, before, [busy, *refused, answer], left_count=1)
    assert outcomes(attempts) == ["cancelled", "answered"]
    assert "ttft_s" not in attempts[0] or attempts[0]["outcome"] != "cancelled"


async def test_gone_while_queued(queueing: Router) -> None:
    """With both slots busy a waiting call holds the queue's only place; when it leaves, another may wait."""
    before = await queueing.quiet()
    async with (
        raw_call(queueing, endless(), COMPLETIONS) as one,
        raw_call(queueing, endless(), COMPLETIONS) as other,
    ):
        await asyncio.gather(one.pieces(2), other.pieces(2))
        async with raw_call(queueing, short(), COMPLETIONS) as waiting:
            await soon(lambda: queueing.connections() == 3, "the waiting call's connection")
            busy = await ask(queueing, short(), COMPLETIONS)
            assert busy.status == 429
            waiting.reset()
            await soon(lambda: queueing.connections() == 2, "the waiting call's end")
        async with asyncio.TaskGroup() as group:
            next_one = group.create_task(answered(queueing))
            await soon(lambda: queueing.connections() == 3, "the next call's connection")
            one.reset()
        other.reset()
    answer, refused = next_one.result()

    assert answer.text().startswith(NEXT)
    attempts = await assert_invariants(queueing, before, [busy, *refused, answer], left_count=3)
    assert outcomes(attempts) == ["cancelled", "cancelled", "answered", "cancelled"]
    assert "ttft_s" not in next(line for line in attempts if line["outcome"] == "cancelled")


@pytest.mark.parametrize("phase", ["prefill", "decode"])
async def test_a_neighbour_does_not_notice(queueing: Router, phase: str) -> None:
    """The other sequence of a shared batch has the text that it has alone, token for token (F28)."""
    body = completion_body("local-only", COUNTED, stream=True, max_tokens=90, logit_bias=NO_END)
    alone = await ask(queueing, body, COMPLETIONS)
    before = await queueing.quiet()
    prompt = fresh_long() if phase == "prefill" else "2, 4, 6, 8,"
    leaver = completion_body("local-only", prompt, stream=True, **ENDLESS)
    async with raw_call(queueing, body, COMPLETIONS) as staying:
        await staying.pieces(2)
        async with raw_call(queueing, leaver, COMPLETIONS) as leaving:
            if phase == "decode":
                await leaving.pieces(4)
            else:
                await staying.pieces(6)  # both are in the batch by now
            leaving.reset()
        together = await staying.rest()

    assert together.text() == alone.text()
    assert together.counted == alone.counted
    attempts = await assert_invariants(queueing, before, [together], left_count=1)
    assert outcomes(attempts) == ["cancelled", "answered"]


async def test_three_neighbours_do_not_notice(manifest: Path, emulator: Emulator, tmp_path: Path) -> None:
    """B, C and D of a batch of four say what they say without A, which leaves in the middle (F28)."""
    prompts = [COUNTED, "10, 20, 30, 40, 50,", "a, b, c, d, e, f,"]
    bodies = [
        completion_body("local-only", prompt, stream=True, max_tokens=40, logit_bias=NO_END)
        for prompt in prompts
    ]
    with stopped_at_end(router := Router(policy(manifest, emulator.base_url, parallel=4), tmp_path)):
        without = await asyncio.gather(*(ask(router, body, COMPLETIONS) for body in bodies))
        before = await router.quiet()
        async with raw_call(router, endless(), COMPLETIONS) as leaving, asyncio.TaskGroup() as group:
            await leaving.pieces(2)
            staying = [group.create_task(ask(router, body, COMPLETIONS)) for body in bodies]
            await leaving.pieces(12)
            leaving.reset()
        together = [task.result() for task in staying]

        assert [answer.text() for answer in together] == [answer.text() for answer in without]
        assert [answer.counted for answer in together] == [answer.counted for answer in without]
        attempts = await assert_invariants(router, before, together, left_count=1)
        assert outcomes(attempts) == ["cancelled", "answered", "answered", "answered"]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_gone_while_loading(narrow: Router, stream: bool) -> None:
    """The load goes on for whoever comes next, who finds the same worker; nothing is computed for nobody."""
    before = await narrow.quiet()
    killed = narrow.worker()
    os.kill(killed, signal.SIGKILL)
    worker = await soon(lambda: next_worker(narrow, killed), "a worker that loads")
    os.kill(worker, signal.SIGSTOP)  # it loads as long as this test needs
    try:
        body = completion_body("local-only", fresh_long(), stream=stream, **ENDLESS)
        async with raw_call(narrow, body, COMPLETIONS) as leaving:
            while await metric(narrow, "hybrid_router_in_flight") != 1:  # noqa: ASYNC110 - another process
                await asyncio.sleep(POLL_S)
            leaving.reset()
        await soon(lambda: "call" in events(narrow, before), "the call has ended")
        assert "model resident" not in events(narrow, before)
    finally:
        os.kill(worker, signal.SIGCONT)  # whatever failed here is not to fail the next test too
    answer = await ask(narrow, short(), COMPLETIONS)

    assert answer.text().startswith(NEXT)
    assert narrow.children() == [worker]
    attempts = await assert_invariants(narrow, before, [answer], left_count=1)
    assert outcomes(attempts) == ["cancelled", "answered"]


async def test_gone_after_the_last_token(narrow: Router, emulator: Emulator) -> None:
    """All is said but `[DONE]`, for which the cloud takes its time: it is not waited for."""
    emulator.calm()
    emulator.fault(stall_after=FINISH_LINE)
    before = await narrow.quiet()
    async with raw_call(narrow, chat_body("cloud-only", "count to 3", stream=True)) as leaving:
        await leaving.sees(b'"finish_reason":"stop"')
        leaving.reset()
        (seen,) = await asyncio.to_thread(emulator.calls)

    assert seen["outcome"] == "client_left"
    assert b"[DONE]" not in leaving.received
    (attempt,) = await assert_invariants(narrow, before, [], left_count=1)
    assert attempt["outcome"] == "cancelled"


async def test_gone_from_a_cloud(narrow: Router, emulator: Emulator) -> None:
    """The cloud's connection is closed too: nothing is paid for that nobody reads."""
    emulator.calm()
    before = await narrow.quiet()
    body = completion_body("cloud-only", "count to 5000", stream=True)
    async with raw_call(narrow, body, COMPLETIONS) as leaving:
        await leaving.pieces(7)
        leaving.reset()
        (seen,) = await asyncio.to_thread(emulator.calls)

    assert seen["outcome"] == "client_left"
    (attempt,) = await assert_invariants(narrow, before, [], left_count=1)
    assert attempt["outcome"] == "cancelled"
