"""The residency part: what a swap of models costs, and how many a mixed stream of calls needs."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import statistics
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from time import perf_counter

from msgspec import Struct

from bench.llama import model
from bench.routing_report import Block
from hybrid_router.backends.local import Local, LocalModel
from hybrid_router.core.call import Call, Operation, Sampling
from hybrid_router.core.space import Space
from hybrid_router.core.step import Step, Timeouts
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.workers.house import House
from hybrid_router.workers.life import Resident, State
from hybrid_router.workers.memory import Machine
from hybrid_router.workers.tenant import Budget, Terms
from hybrid_router.workers.worker import Worker

CALLS_COUNT, CLIENTS_COUNT = 200, 16
SWAP_WAIT_S = 3.0
_SWAPS_A_ROUND = 3
_NEED_BYTES = 2**30  # declared: what counts is that two do not fit
_PATIENT = Timeouts(connect_s=600, load_s=600, first_token_s=600, between_tokens_s=600, total_s=600)
_HALF_OF_A_BYTE = 128


class Residency(Struct, kw_only=True):
    """What was measured.

    Attributes:
        resident_ms: of a call for the resident model, one token.
        swapped_ms: of one for the other model: its end, the load, and the same token.
        waits_ms: of each of the mixed calls, sorted.
        loads_count: loads that they made.
        first_come_count: loads that they would make one after the other as they came.
    """

    resident_ms: list[float]
    swapped_ms: list[float]
    waits_ms: list[float]
    loads_count: int
    first_come_count: int


def measure(rounds: int, say: Callable[[str], None]) -> Residency:
    """Measure with the starter model under two names, of which one fits."""
    return asyncio.run(_measure(rounds, say))


async def _measure(rounds: int, say: Callable[[str], None]) -> Residency:
    resident_ms, swapped_ms = [], []
    say("residency: swaps")
    async with _housed(swap_wait_s=0.001) as (local, _):
        await _asked(local, "one")
        for name in itertools.islice(itertools.cycle(("two", "one")), rounds * _SWAPS_A_ROUND):
            swapped_ms.append(await _asked(local, name))
            resident_ms.append(await _asked(local, name))
    say(f"residency: {CALLS_COUNT} mixed calls")
    order = _mixed()
    async with _housed(SWAP_WAIT_S) as (local, loads):
        todo = iter(order)

        async def client() -> list[float]:
            return [await _asked(local, name) for name in todo]

        waits_ms = await asyncio.gather(*(client() for _ in range(CLIENTS_COUNT)))
    return Residency(
        resident_ms=resident_ms,
        swapped_ms=swapped_ms,
        waits_ms=sorted(itertools.chain(*waits_ms)),
        loads_count=len(loads),
        first_come_count=1 + sum(one != next_ for one, next_ in itertools.pairwise(order)),
    )


def _mixed() -> list[str]:
    """Calls for either model, in an order that looks like chance and is always the same."""
    mixed = hashlib.shake_256(b"mixed calls").digest(CALLS_COUNT)
    return ["one" if byte < _HALF_OF_A_BYTE else "two" for byte in mixed]


@asynccontextmanager
async def _housed(swap_wait_s: float) -> AsyncGenerator[tuple[Local, list[str]]]:
    """The starter model under two names, of which one fits; and the names as they were loaded."""
    house = House(Budget(space=Space(_NEED_BYTES * 3 // 2), swap_wait_s=swap_wait_s), Machine())
    opening = LlamaSettings(path=str(model()), context=512, parallel=2, threads=2, prefill_chunk=64)
    loads: list[str] = []

    def worker(name: str) -> Worker:
        def hear(state: State) -> None:
            if isinstance(state, Resident):
                loads.append(name)

        made = Worker(opening, on_state=hear, house=house, terms=Terms(memory_bytes=_NEED_BYTES), name=name)
        made.start(load=False)
        return made

    local = Local({name: LocalModel(worker(name), CALLS_COUNT) for name in ("one", "two")})
    try:
        yield local, loads
    finally:
        await local.close()


async def _asked(local: Local, name: str) -> float:
    """Milliseconds of one call for one token."""
    call = Call(
        id="c",
        operation=Operation.COMPLETE,
        alias=name,
        prompts=("The capital of France is",),
        sampling=Sampling(temperature=0, max_tokens=1),
    )
    began_s = perf_counter()
    step = Step(backend="local", model=name, timeouts=_PATIENT, because="")
    async with aclosing(local.run(call, step)) as batches:
        async for _ in batches:
            pass
    return (perf_counter() - began_s) * 1000


def blocks(found: Residency) -> Iterator[Block]:
    """As tables."""
    half = found.first_come_count / 2
    verdict = "Met" if found.loads_count <= half else "Missed"
    yield Block(
        "Residency: the starter model under two names, of which one fits",
        [
            f"{CALLS_COUNT} mixed calls of {CLIENTS_COUNT} clients, `swap_wait` {SWAP_WAIT_S:g} s: "
            f"{found.loads_count} loads; first come, first served would make {found.first_come_count}. "
            f"Target: at most half. {verdict}."
        ],
        [
            ["one token", "calls", "p50 ms", "longest ms"],
            *(
                [what, str(len(times)), f"{statistics.median(times):,.0f}", f"{max(times):,.0f}"]
                for what, times in (
                    ("of the resident model", found.resident_ms),
                    ("of the other: end, load, answer", found.swapped_ms),
                    ("mixed calls", found.waits_ms),
                )
            ),
        ],
    )
