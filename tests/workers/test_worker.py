"""A worker and its real children."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from hybrid_router.backends.local import Local, LocalModel, named
from hybrid_router.core.call import Call, Message, Operation, Sampling
from hybrid_router.core.errors import (
    BackendBusy,
    BackendTimeout,
    BackendUnavailable,
    CallRefused,
    ContextOverflow,
    PrefillRefused,
    QueueFull,
    StreamBroken,
)
from hybrid_router.core.event import Batch, Finish, Text, Usage
from hybrid_router.core.step import Step, Timeouts
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.engines.task import PREFILL_REFUSED, WORKER_BUSY, Refused
from hybrid_router.workers.child import spawn
from hybrid_router.workers.landlock import known_version
from hybrid_router.workers.life import Dead, Resident, State
from hybrid_router.workers.worker import Heartbeat, Worker, WorkerDown

pytestmark = pytest.mark.model
WAITS = Timeouts(connect_s=1, load_s=15, first_token_s=15, between_tokens_s=15, total_s=60)
STEP = Step(backend="local", model="m", timeouts=WAITS, because="")
LONG = "Count from one to one thousand in words."


def call(text: str = "Say hello.", *, max_tokens: int = 8) -> Call:
    return Call(
        id="c",
        operation=Operation.CHAT,
        alias="a",
        messages=(Message(role="user", content=text),),
        sampling=Sampling(temperature=0, max_tokens=max_tokens),
    )


class Kept:
    """A worker, what it told, and the backend on it."""

    def __init__(
        self, settings: LlamaSettings, queue_count: int = 10, heartbeat: Heartbeat | None = None
    ) -> None:
        self.states: list[State] = []
        self.lines: list[str] = []
        self.worker = Worker(
            settings, on_state=self.states.append, on_line=self.lines.append, heartbeat=heartbeat
        )
        self.backend = Local({"m": LocalModel(self.worker, queue_count)})

    async def answer(self, asked: Call) -> Batch:
        return [event async for batch in self.backend.run(asked, STEP) for event in batch]

    async def pid(self) -> int:
        return (await self.worker.child()).pid


@pytest.fixture
async def kept(model_settings: LlamaSettings) -> AsyncIterator[Kept]:
    made = Kept(model_settings)
    made.worker.start(load=True)
    yield made
    await made.backend.close()


async def _exhaust(batches: AsyncIterator[Batch]) -> None:
    async for _ in batches:
        pass


def text_of(events: Batch) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


async def test_a_call_is_answered_by_a_child(kept: Kept) -> None:
    """Text, one finish, usage; and the router's own process loaded no model."""
    events = await kept.answer(call())

    assert any(isinstance(event, Text) for event in events)
    assert [type(event) for event in events[-2:]] == [Finish, Usage]
    assert await kept.pid() != os.getpid()
    assert (await kept.worker.child()).in_flight_count == 0


async def test_killed_in_the_middle_the_stream_is_broken_and_the_next_call_served(kept: Kept) -> None:
    """The caller hears how the child died; a new child takes the next call."""
    killed = await kept.pid()
    batches = kept.backend.run(call(LONG, max_tokens=300), STEP)
    await anext(batches)

    os.kill(killed, signal.SIGKILL)

    with pytest.raises(StreamBroken, match="killed by SIGKILL"):
        await _exhaust(batches)

    assert [type(event) for event in (await kept.answer(call()))[-2:]] == [Finish, Usage]
    assert await kept.pid() != killed


async def test_an_answer_that_broke_off_goes_on(kept: Kept) -> None:
    """The next child takes it up behind what the client has; the whole is what one would have written."""
    asked = Call(
        id="c",
        operation=Operation.COMPLETE,
        alias="a",
        prompts=("1, 2, 3, 4, 5, 6, 7,",),
        sampling=Sampling(temperature=0, max_tokens=10),
    )
    whole = await kept.answer(asked)
    child = await kept.worker.child()
    child.kill()
    await child.ended

    rest = await kept.answer(msgspec.structs.replace(asked, written=" 8, 9"))

    assert text_of(whole).startswith(" 8, 9,")
    assert " 8, 9" + text_of(rest) == text_of(whole)
    assert kept.backend.continues("m", asked)
    assert not kept.backend.continues("m", msgspec.structs.replace(asked, n=2))


def test_a_vocabulary_that_cannot_go_on_is_asked_anew() -> None:
    """`PrefillRefused`: the step may start from the beginning."""
    refused = Refused(id=1, code=PREFILL_REFUSED, message="cannot write that")

    assert isinstance(named(refused, STEP, started=False), PrefillRefused)


def test_a_worker_without_room_for_files_is_full() -> None:
    """`QueueFull`: the next step may try, and nothing is held against the model."""
    refused = Refused(id=1, code=WORKER_BUSY, message="it holds too many files")

    assert isinstance(named(refused, STEP, started=False), QueueFull)


async def test_killed_before_the_first_event_the_next_step_may_try(kept: Kept) -> None:
    """`BackendUnavailable`, not `StreamBroken`: nothing was shown."""
    child = await kept.worker.child()
    running = asyncio.create_task(kept.answer(call("word " * 400)))
    await child.ping()  # one turn of the loop at least: the call has been sent
    assert child.in_flight_count == 1

    child.kill()

    with pytest.raises(BackendUnavailable, match="killed by SIGKILL"):
        await running


async def test_a_call_during_a_load_waits_for_it(model_settings: LlamaSettings) -> None:
    """A worker that is wanted only now loads now."""
    kept = Kept(model_settings)
    kept.worker.start(load=False)
    try:
        assert kept.states == []
        assert (await kept.answer(call()))[-1:] != []
        assert isinstance(kept.worker.state, Resident)
    finally:
        await kept.backend.close()


async def test_a_load_longer_than_its_limit_is_a_timeout(model_settings: LlamaSettings) -> None:
    """The next step tries; the load goes on for the calls after."""
    kept = Kept(model_settings)
    kept.worker.start(load=False)
    hurried = msgspec.structs.replace(STEP, timeouts=msgspec.structs.replace(WAITS, load_s=0.001))
    try:
        with pytest.raises(BackendTimeout, match="still loading"):
            await anext(kept.backend.run(call(), hurried))
        assert isinstance(await kept.worker.settled(), Resident)
    finally:
        await kept.backend.close()


async def test_a_file_that_cannot_be_loaded_is_tried_once(
    tmp_path: Path, model_settings: LlamaSettings
) -> None:
    """The reason names the file; no restart loop."""
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF and nothing more")
    kept = Kept(msgspec.structs.replace(model_settings, path=str(bad)))
    kept.worker.start(load=True)
    try:
        state = await kept.worker.settled()

        assert isinstance(state, Dead)
        assert state.until_s is None
        assert "bad.gguf" in state.reason
        assert (kept.backend.down("m") or "-") in state.reason
        with pytest.raises(WorkerDown, match=r"bad\.gguf"):
            await kept.worker.child()
        assert len([state for state in kept.states if isinstance(state, Dead)]) == 1
    finally:
        await kept.backend.close()


async def test_leaving_stops_the_decoding(kept: Kept) -> None:
    """The child hears of it while it decodes; its slot is free for the next call."""
    batches = kept.backend.run(call(LONG, max_tokens=400), STEP)
    await anext(batches)
    await batches.aclose()

    child = await kept.worker.child()
    assert child.in_flight_count == 0
    before = (await child.ping()).step_count
    assert (await kept.answer(call(max_tokens=1)))[-1:] != []
    assert (
        await child.ping()
    ).step_count - before < 100  # far fewer steps than the call that left had before it


async def test_more_calls_than_there_is_room_for_are_busy(model_settings: LlamaSettings) -> None:
    """The bound is exact, and a call that ends makes room."""
    kept = Kept(msgspec.structs.replace(model_settings, parallel=1), queue_count=0)
    kept.worker.start(load=True)
    try:
        first = kept.backend.run(call(LONG, max_tokens=300), STEP)
        await anext(first)
        with pytest.raises(BackendBusy):
            await anext(kept.backend.run(call(), STEP))
        await first.aclose()
        assert (await kept.answer(call()))[-1:] != []
    finally:
        await kept.backend.close()


async def test_refusals_keep_their_kind(kept: Kept) -> None:
    """An overflow may go to a larger model, a bad call may not."""
    with pytest.raises(ContextOverflow, match="512 tokens"):
        await kept.answer(call("word " * 600))
    bad = msgspec.structs.replace(call(), sampling=Sampling(logit_bias={10**8: 1.0}))
    with pytest.raises(CallRefused, match="logit_bias"):
        await kept.answer(bad)


async def test_closing_ends_the_child(kept: Kept) -> None:
    """No orphan."""
    pid = await kept.pid()

    await kept.backend.close()
    await kept.backend.close()  # the second time finds nothing to do

    assert gone(pid)


async def test_who_waits_for_a_closed_worker_is_told(model_settings: LlamaSettings) -> None:
    """A call that waits for the model, and one that comes later, fail at once; nobody is told of a death."""
    worker, states = Worker(model_settings), list[State]()
    worker.start(load=False)
    worker._on_state = states.append
    waiting = asyncio.create_task(worker.child())
    await asyncio.sleep(0)
    await worker.close()

    with pytest.raises(WorkerDown, match="closed"):
        await waiting
    with pytest.raises(WorkerDown, match="closed"):
        await worker.child()
    assert not any(isinstance(state, Dead) for state in states)


async def test_a_stopped_child_is_killed_at_the_end(kept: Kept) -> None:
    """It cannot exit politely, so it is not asked for ever."""
    pid = await kept.pid()
    os.kill(pid, signal.SIGSTOP)

    await kept.backend.close()

    assert gone(pid)


async def test_a_child_that_hangs_is_killed_and_replaced(model_settings: LlamaSettings) -> None:
    """Alive is not enough: one that does not answer would keep its calls for ever."""
    kept = Kept(model_settings, heartbeat=Heartbeat(every_s=0.05, limit_s=1.0))
    kept.worker.start(load=True)
    try:
        hung = await kept.pid()
        os.kill(hung, signal.SIGSTOP)
        with pytest.raises((BackendUnavailable, StreamBroken)):
            await kept.answer(call(LONG, max_tokens=300))

        assert await kept.pid() != hung
        reasons = [state.reason for state in kept.states if isinstance(state, Dead)]
        assert reasons == ["worker did not answer for 1 s and was killed"]
    finally:
        await kept.backend.close()


async def test_a_child_inherits_no_secret(monkeypatch: pytest.MonkeyPatch, kept: Kept) -> None:
    """Neither by environment nor by descriptor."""
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "canary-4711")
    child = await spawn(kept.worker._settings, lambda line: None)
    try:
        await asyncio.wait((child.opened, child.ended), return_when=asyncio.FIRST_COMPLETED)
        proc = Path(f"/proc/{child.pid}")
        assert b"canary-4711" not in (proc / "environ").read_bytes()
        assert b"canary-4711" not in (proc / "cmdline").read_bytes()
        status = (proc / "status").read_text()
        assert "NoNewPrivs:\t1" in status
        assert "Seccomp:\t2" in status
        assert child.opened.result().unguarded == () or known_version() < 1
        sockets = [link for fd in (proc / "fd").iterdir() if "socket" in (link := str(fd.readlink()))]
        assert len(sockets) == 2  # its pipe and its hatch
    finally:
        child.kill()
        await asyncio.wait((child.ended,))


ORPHAN = """
import asyncio, os, signal, sys, msgspec
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.workers.worker import Worker
async def main():
    worker = Worker(msgspec.json.decode(sys.argv[1], type=LlamaSettings))
    worker.start(load=True)
    print((await worker.child()).pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


def test_children_die_with_the_router(model_settings: LlamaSettings) -> None:
    """Even when it is killed: the kernel tells them."""
    router = subprocess.run(
        [sys.executable, "-c", ORPHAN, msgspec.json.encode(model_settings).decode()],
        stdout=subprocess.PIPE,
        check=False,
        timeout=15,
    )
    pid = int(router.stdout)
    assert router.returncode == -signal.SIGKILL

    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended, _, _ = select.select([watch], [], [], 5)
    os.close(watch)
    assert ended, "the child outlived its router"
