"""F03, F04, F05 and F08: children that ignore their end, leave others behind, or are wanted all at once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from router_process import alive, soon

from hybrid_router.core.call import Operation, Sampling
from hybrid_router.core.event import Batch, Finish, Text
from hybrid_router.core.upload import upload_of
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.engines.task import Opened, Output, Task
from hybrid_router.workers.answer import WorkerGone
from hybrid_router.workers.child import Child
from hybrid_router.workers.life import Dead, Loading, Resident, State
from hybrid_router.workers.protocol import Answers, HatchFull, Ready, framed
from hybrid_router.workers.worker import Heartbeat, Worker, WorkerDown

SCRIPT = Path(__file__).with_name("odd_child.py")
ANYTHING = LlamaSettings(path="/nowhere", context=512, parallel=2, threads=1, prefill_chunk=64)
READY = Ready(Opened(description="odd", context=512, parallel=2, has_template=False, vocabulary_count=9))
SAID: Batch = [Text("late or not"), Finish("stop")]
ANSWER = Answers([Output(id=1, events=SAID, last=True)])
QUICK = Heartbeat(every_s=0.02, limit_s=1.0, step_s=0.3)
NEVER = Heartbeat(every_s=1000.0)


class Odd:
    """A worker of odd children, and what became known of it."""

    def __init__(self, ways: list[str], heartbeat: Heartbeat = NEVER) -> None:
        """The first child is odd in the first way, and so on; `ways` is used up."""
        self.states: list[State] = []
        self.overlaps: list[int] = []  # processes that still ran when the next was started
        self.lines: list[str] = []
        frames = framed(READY).hex(), framed(ANSWER).hex()
        self._program = [sys.executable, "-I", "-S", str(SCRIPT), "", *frames]
        self._ways = ways
        self.worker = Worker(
            ANYTHING,
            on_state=self._hear,
            on_line=self.lines.append,
            heartbeat=heartbeat,
            program=self._program,
        )

    @property
    def pids(self) -> list[int]:
        """Every process that was started, those of children included."""
        return [int(line.split()[1]) for line in self.lines if line.startswith("pid ")]

    def reasons(self) -> list[str]:
        """Why children died."""
        return [state.reason for state in self.states if isinstance(state, Dead)]

    def _hear(self, state: State) -> None:
        self.states.append(state)
        if isinstance(state, Loading):
            self.overlaps += [pid for pid in self.pids if alive(pid)]
            self._program[4] = self._ways.pop(0) if len(self._ways) > 1 else self._ways[0]


@asynccontextmanager
async def odd(*ways: str, heartbeat: Heartbeat = NEVER) -> AsyncIterator[Odd]:
    """A worker that is closed at the end, whatever its children do."""
    made = Odd(list(ways), heartbeat)
    made.worker.start(load=True)
    try:
        yield made
    finally:
        await made.worker.close()


def task(task_id: int) -> Task:
    return Task(
        id=task_id, operation=Operation.COMPLETE, messages=(), prompts=("x",), sampling=Sampling(), n=1
    )


async def test_a_child_that_takes_no_files_keeps_its_calls() -> None:
    """Files that cannot be passed end their own call, not the others' in that process."""
    upload = upload_of(b"x")
    async with odd("is silent") as made:
        child = await made.worker.child()
        with suppress(HatchFull):
            while True:  # until then
                child.begin(lambda task_id: replace(task(task_id), uploads=(upload,)))
        begun_count = child.in_flight_count
        child.begin(task)

        assert child.in_flight_count == begun_count + 1
        assert not child.ended.done()
    upload.close()


async def answered(child: Child) -> Batch:
    """What a child says to a task."""
    _, answer = child.begin(task)
    return [event async for batch in answer.batches() for event in batch]


async def test_a_child_that_ignores_its_end_is_killed() -> None:
    """F04: it may ignore the hang-up and every signal that can be ignored; closing ends all the same."""
    async with odd("ignores its end") as one:
        child = await one.worker.child()
        await one.worker.close()

        assert child.ended.result() == "worker was killed by SIGKILL"
        assert not alive(child.pid)


async def test_a_load_that_never_ends_can_be_closed() -> None:
    """F04: a child that opens its model for ever is killed too, and who waits for it is told."""
    async with odd("never opens") as one:
        waiting = asyncio.create_task(one.worker.child())
        (pid,) = await soon(lambda: one.pids, "a child that loads")
        await one.worker.close()

        with pytest.raises(WorkerDown, match="closed"):
            await waiting
        assert not alive(pid)


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("ignores its end", "worker did not answer for 1 s and was killed"),
        ("is stuck", "worker was at one step for 0.3 s and was killed"),
        ("hangs up and stays", "worker did not answer for 1 s and was killed"),
        ("speaks nonsense", "worker was killed by SIGKILL"),
        ("opens twice", "worker was killed by SIGKILL"),
    ],
)
async def test_an_odd_child_is_killed_before_the_next_is_started(way: str, reason: str) -> None:
    """F03, F04: the old process, and so its memory, is gone when the next one begins to load."""
    async with odd(way, "serves", heartbeat=QUICK) as one:
        await soon(one.reasons, "the odd one is dead")
        await one.worker.child()

        assert one.reasons()[0] == reason
        assert one.overlaps == []


@pytest.mark.parametrize("name", ["SIGABRT", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL"])
async def test_a_file_that_kills_its_worker_is_opened_once(name: str) -> None:
    """The reason names the file, the signal and what was said of it; who asks later is told the same."""
    async with odd(f"dies of {name}") as one:
        state = await one.worker.settled()

        assert state == Dead(
            f"/nowhere: worker was killed by {name} while it opened this file: "
            "GGML_ASSERT(tensor->nb[0] > 0) failed",
            None,
        )
        with pytest.raises(WorkerDown, match=rf"/nowhere.*{name}"):
            await one.worker.child()
        assert [type(each) for each in one.states] == [Loading, Dead]


async def test_an_engine_that_raises_while_it_opens_is_started_once() -> None:
    """The last words are the exception's, and no terminal acts on them."""
    async with odd("raises") as one:
        state = await one.worker.settled()

        assert isinstance(state, Dead)
        assert state.until_s is None
        assert "/nowhere: worker exited with status 1" in state.reason
        assert state.reason.endswith("MemoryError: no room for ?[31m 7 layers")


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
async def test_a_child_that_others_end_while_it_opens_is_started_again(name: str) -> None:
    """Memory may be short for a moment only."""
    async with odd(f"dies of {name}", f"dies of {name}", "serves") as one:
        await soon(lambda: isinstance(one.worker.state, Resident), "the third is open")

        assert one.reasons() == [f"worker was killed by {name}"] * 2


async def test_a_child_that_dies_after_it_opened_is_started_again() -> None:
    """The file was not its end: it had served."""
    async with odd("leaves a child", "serves") as one:
        first = await one.worker.child()
        first.begin(task)
        await first.ended

        assert await one.worker.child() is not first
        assert not first.hopeless


async def test_a_child_without_work_is_not_stuck() -> None:
    """F03: it may be at the same step for days."""
    async with odd("is idle", heartbeat=Heartbeat(every_s=0.01, limit_s=10, step_s=0.05)) as one:
        child = await one.worker.child()
        ended, _ = await asyncio.wait((child.ended,), timeout=0.5)

        assert (ended, one.reasons()) == (set(), [])


async def test_what_a_child_left_behind_is_killed() -> None:
    """F05: it holds the pipe and standard error open, and nobody waits for that: its group is killed."""
    async with odd("leaves a child", "serves") as one:
        child = await one.worker.child()
        await soon(lambda: len(one.pids) == 2, "both said who they are")
        (left,) = [pid for pid in one.pids if pid != child.pid]
        with pytest.raises(WorkerGone, match="exited with status 7"):
            await answered(child)

        assert await answered(await one.worker.child()) == SAID
        await soon(lambda: not alive(left), "what it left is gone")


async def test_nobody_speaks_for_a_dead_child() -> None:
    """F03, F05: what outlives a child and its group is not listened to, however much it says.

    It says it under the number that the next child's first task has.
    """
    async with odd("leaves a ghost", "is silent") as one:
        first = await one.worker.child()
        await soon(lambda: "haunts" in one.lines, "the ghost speaks")
        (ghost,) = [pid for pid in one.pids if pid != first.pid]
        first.begin(task)  # it ends at that
        await first.ended
        second = await one.worker.child()
        _, late = second.begin(task)
        await soon(lambda: not alive(ghost), "the ghost's words go nowhere")
        second.kill()

        with pytest.raises(WorkerGone):
            assert [batch async for batch in late.batches()] == []
        assert second is not first


async def test_wanted_by_many_it_is_loaded_once() -> None:
    """F08: twenty calls at once, one process."""
    async with odd("serves") as one:
        children = await asyncio.gather(*(one.worker.child() for _ in range(20)))

        assert len({child.pid for child in children}) == 1
        assert [type(state) for state in one.states] == [Loading, Resident]


Act = Callable[[Odd], Awaitable[None]]


async def _turn(one: Odd) -> None:
    await asyncio.sleep(0)


async def _wait(one: Odd) -> None:
    """Long enough for a child to get somewhere."""
    await asyncio.sleep(0.005)


async def _open(one: Odd) -> None:
    with suppress(TimeoutError, WorkerDown):
        async with asyncio.timeout(5):
            await one.worker.child()


async def _kill(one: Odd) -> None:
    for child in filter(None, [one.worker._child]):
        child.kill()


ACTS: dict[str, Act] = {"turn": _turn, "wait": _wait, "open": _open, "kill": _kill}


async def _trial(before: list[str], after: list[str]) -> None:
    one = Odd(["serves"])
    one.worker.start(load=False)
    asking: list[asyncio.Task[Child]] = []
    for name in before:
        if name == "ask":
            asking.append(asyncio.create_task(one.worker.child()))
        else:
            await ACTS[name](one)
    closing = asyncio.create_task(one.worker.close())
    for name in after:
        if name == "ask":
            asking.append(asyncio.create_task(one.worker.child()))
        else:
            await _turn(one)
    async with asyncio.timeout(10):
        await closing
        told = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(each, Child | WorkerDown) for each in told), told
    assert one.overlaps == []
    await soon(lambda: not any(map(alive, one.pids)), "no process is left")
    assert asyncio.all_tasks() == {asyncio.current_task()}


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from(["ask", *ACTS]), max_size=8),
    st.lists(st.sampled_from(["ask", "turn"]), max_size=4),
)
def test_load_and_close_may_meet_anywhere(before: list[str], after: list[str]) -> None:
    """F08: whatever was asked, opened and killed when: closing ends, everyone is told, no process is left."""
    asyncio.run(_trial(before, after))
