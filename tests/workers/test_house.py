"""Models that share memory: real children, of real files, in a house with too little room for two."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path

import pytest
import tiny_gguf
from router_process import soon

from hybrid_router.backends.local import Local, LocalModel
from hybrid_router.core.call import Call, Operation, Sampling
from hybrid_router.core.errors import BackendError, BackendUnavailable
from hybrid_router.core.space import NO_SPACE, UNLIMITED, Space
from hybrid_router.core.step import Step, Timeouts
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.workers.house import House
from hybrid_router.workers.life import Absent, Dead, Loading, Resident, State
from hybrid_router.workers.memory import Taken
from hybrid_router.workers.tenant import Budget, Terms
from hybrid_router.workers.worker import Worker

pytestmark = pytest.mark.model
WAITS = Timeouts(connect_s=60, load_s=60, first_token_s=60, between_tokens_s=60, total_s=60)
MIB = 2**20
WEIGHT = Space(100 * MIB)
CALLS_COUNT, CLIENTS_COUNT = 200, 32
WAIT_S = 2.0
_MIXED = hashlib.shake_256(b"mixed calls").digest(CALLS_COUNT)


class Scales:
    """Every process weighs 100 MiB; what there is and how many the kernel has killed the test says."""

    def __init__(self) -> None:
        self.killed_count = 0
        self.limit = UNLIMITED
        self._pids: list[int] = []

    def total(self) -> Space:
        return UNLIMITED

    def available(self) -> Space:
        return sum((NO_SPACE - WEIGHT for pid in self._pids if self.taken(pid)), start=self.limit)

    def taken(self, pid: int) -> Taken | None:
        return Taken(WEIGHT, WEIGHT) if Path(f"/proc/{pid}").exists() else None

    def kills(self, pid: int) -> Callable[[], int]:
        self._pids.append(pid)
        return lambda: self.killed_count


class Shared:
    """Models of one house, and what happened there: (model, state)."""

    def __init__(
        self, paths: dict[str, Path], room_bytes: int, wait_s: float, terms: dict[str, Terms]
    ) -> None:
        self.scales = Scales()
        self.house = House(Budget(space=Space(room_bytes), swap_wait_s=wait_s), self.scales)
        self.happened: list[tuple[str, State]] = []
        self.most_children_count = 0
        self.workers = {name: self._worker(name, path, terms.get(name)) for name, path in paths.items()}
        self.local = Local({name: LocalModel(worker, 64) for name, worker in self.workers.items()})

    def _worker(self, name: str, path: Path, terms: Terms | None) -> Worker:
        settings = LlamaSettings(path=str(path), context=64, parallel=2, threads=1, prefill_chunk=64)

        def hear(state: State) -> None:
            self.happened.append((name, state))
            count = sum(worker.pid is not None for worker in self.workers.values())
            self.most_children_count = max(self.most_children_count, count)

        return Worker(settings, on_state=hear, house=self.house, terms=terms, name=name)

    def loads(self) -> list[str]:
        """Which models were loaded, in order."""
        return [name for name, state in self.happened if isinstance(state, Resident)]

    async def ask(self, model: str, tokens: int = 2) -> None:
        step = Step(backend="local", model=model, timeouts=WAITS, because="")
        call = Call(
            id="c",
            operation=Operation.COMPLETE,
            alias="a",
            prompts=("ab",),
            sampling=Sampling(temperature=0, max_tokens=tokens),
        )
        async with aclosing(self.local.run(call, step)) as batches:
            async for _ in batches:
                pass


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tiny")
    return {name: tiny_gguf.write(folder / f"{name}.gguf") for name in ("one", "two")}


@asynccontextmanager
async def shared(
    paths: dict[str, Path],
    *,
    room_bytes: int = 150 * MIB,
    wait_s: float = WAIT_S,
    load: bool = False,
    **terms: Terms,
) -> AsyncIterator[Shared]:
    """Two models of 100 MiB; everything is ended afterwards."""
    made = Shared(paths, room_bytes, wait_s, terms)
    for worker in made.workers.values():
        worker.start(load=load)
    try:
        yield made
    finally:
        await made.local.close()


async def test_two_models_that_do_not_fit_together_take_turns(paths: dict[str, Path]) -> None:
    """200 calls of 32 clients: at most half the swaps of first come, first served; nobody waits for long;
    never two in memory.

    A wait is bounded by `swap_wait`, what the resident model still has to do, its end, and the load.  How
    long those take is the machine's business, so the turns that pass a call by are counted: none does twice.
    """
    order = ["one" if byte < 128 else "two" for byte in _MIXED]
    todo, passed_by = iter(order), list[int]()

    async with shared(paths) as house:

        async def client() -> None:
            for model in todo:
                before = len(house.loads())
                await house.ask(model)
                passed_by.append(sum(loaded != model for loaded in house.loads()[before:]))

        await asyncio.gather(*(client() for _ in range(CLIENTS_COUNT)))

        first_come_count = 1 + sum(a != b for a, b in itertools.pairwise(order))
        assert len(passed_by) == CALLS_COUNT
        assert 2 <= len(house.loads()) <= first_come_count / 2
        assert max(passed_by) <= 1
        assert house.most_children_count == 1


async def test_preloads_that_do_not_fit_together_wait_for_their_calls(paths: dict[str, Path]) -> None:
    """One is loaded, nobody waits for the other, and it comes when it is asked for."""
    async with shared(paths, load=True) as house:
        states = [await worker.settled() for worker in house.workers.values()]
        assert [type(state) for state in states] == [Resident, Absent]
        assert house.local.down("two") is None

        await house.ask("two")
        assert house.loads() == ["one", "two"]


async def test_a_model_beyond_the_budget_is_down_by_name(paths: dict[str, Path]) -> None:
    """At once, with both numbers, and no process is started for it."""
    async with shared(paths, one=Terms(memory_bytes=900 * MIB)) as house:
        await house.ask("two")
        why = house.local.down("one") or ""
        assert "900 MiB" in why
        assert "150 MiB" in why
        with pytest.raises(BackendUnavailable, match="900 MiB"):
            await house.ask("one")
        assert house.loads() == ["two"]


async def test_an_idle_model_leaves_by_itself(paths: dict[str, Path]) -> None:
    """Its process is gone, its state says absent, and the next call has it again."""
    async with shared(paths, one=Terms(idle_s=0.05)) as house:
        await house.ask("one")
        await soon(lambda: isinstance(house.workers["one"].state, Absent), "evicted")
        assert house.workers["one"].pid is None
        await house.ask("one")
        assert house.loads() == ["one", "one"]
        assert house.house.loads == {"one": 2}
        assert house.house.evictions["one", "idle"] >= 1


async def test_who_cancels_takes_the_load_along(paths: dict[str, Path]) -> None:
    """The only call for a model is given up while it waits for its turn: the other one stays."""
    async with shared(paths, wait_s=60.0) as house:
        await house.ask("one")
        running = asyncio.create_task(house.ask("one", tokens=40))
        waiting = asyncio.create_task(house.ask("two"))
        await soon(lambda: house.workers["two"].load().running_count, "a call that waits")
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        await running
        await house.ask("one")

        assert house.loads() == ["one"]
        assert house.workers["two"].load().running_count == 0


async def test_a_child_killed_for_memory_is_named_and_not_started_in_a_loop(paths: dict[str, Path]) -> None:
    """It comes back when there is more room than was too little for it."""
    async with shared(paths) as house:
        house.scales.limit = Space(120 * MIB)
        await house.ask("one")
        worker = house.workers["one"]
        house.scales.killed_count += 1
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        await soon(lambda: isinstance(worker.state, Dead), "dead")

        assert isinstance(worker.state, Dead)
        assert "killed the worker for memory" in worker.state.reason
        with pytest.raises(BackendError, match="when memory ran out"):
            await house.ask("one")
        assert house.loads() == ["one"]

        house.scales.limit = Space(150 * MIB)
        house.house.stir()
        await asyncio.sleep(0)
        await house.ask("one")
        assert house.loads() == ["one", "one"]


async def test_a_wanted_model_is_loaded_though_no_call_waits(paths: dict[str, Path]) -> None:
    """As a policy asks for that lets clouds answer meanwhile; looking at it loads nothing."""
    async with shared(paths) as house:
        for look in (house.local.down, house.local.load, house.local.context, house.local.features):
            look("two")
        assert not house.happened
        house.local.want("two")
        await soon(house.loads, "loaded")
        assert isinstance(house.happened[0][1], Loading)
        assert house.loads() == ["two"]
