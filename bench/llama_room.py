"""Memory, cancelling, and what ten thousand calls leave behind."""

from __future__ import annotations

import asyncio
import random
import statistics
import subprocess
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from bench.llama_asks import Opening, body, prompt, words
from bench.llama_client import Server, Stream, attempts, session, together
from bench.llama_figures import ENGINE, ROUTER, Goal, Samples, Section, in_turn
from bench.llama_subjects import Setup, Shape, servers
from bench.processes import ROOT, BenchError, python

_SLOTS = 8
_CHILD_S = 300.0
_TRIALS_A_ROUND = 6
_CLIENTS, _LEAK_CONTEXT, _LOOK_CALLS = 16, 512, 100
_KEPT = "32MB"  # small, so that it is full early and its filling is not taken for a leak, nor hides one
_MB = 1024 * 1024
_SLOPE, _FRONT_SLOPE = "child, MB more a 1,000 calls", "listening process, MB more a 1,000 calls"
_FULL = "full slots answered, of 8"
_AT_FIRST, _AFTER_WORK = "after the first call", "after eight calls of 1,000 tokens"


def memory(setup: Setup) -> Section:
    """Resident memory of the process that has the model, before and after work."""
    samples, shape = Samples(), Shape(4096, _SLOTS)
    with servers(setup, shape) as listening:
        for name, server in listening.items():
            setup.say(f"memory: {name}")
            _weigh(samples, server, _AT_FIRST)
            together(server, [body(words(1000, f"weigh {i}"), 32) for i in range(_SLOTS)])
            _weigh(samples, server, _AFTER_WORK)
        front = _resident(listening[ROUTER].front_pid)["VmRSS"] / _MB
    return Section(
        name="memory",
        title="Memory",
        rows=samples.rows({f"{when}, RSS MB": Goal(at_most=1.1) for when in (_AT_FIRST, _AFTER_WORK)}),
        notes=[
            f"{_SLOTS} slots of {shape.context} tokens, single figures. Router: its child with the model; "
            f"the process that listens has {front:.0f} MB beside it. What is not its own is the model's "
            "file, mapped, and libraries."
        ],
    )


def _weigh(samples: Samples, server: Server, when: str) -> None:
    found = _resident(server.pid)
    samples.add(f"{when}, RSS MB", server.name, found["VmRSS"] / _MB)
    samples.add(f"{when}, its own MB", server.name, found["RssAnon"] / _MB)


def _resident(pid: int) -> dict[str, int]:
    """A process's resident memory in bytes, by the kernel's names."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    pairs = (line.split(":") for line in lines if line.endswith(" kB"))
    return {name: 1024 * int(value.split()[0]) for name, value in pairs}


def cancelling(setup: Setup) -> Section:
    """How soon a slot is free after its client left, over HTTP and in steps of the engine."""
    samples, shape = Samples(), Shape(1024, _SLOTS)
    steps = _steps(setup, shape)
    freed, within = "left to the next one's first token s", "engine, steps until the slot is free"
    samples.add(within, ROUTER, max(steps))
    with servers(setup, shape) as listening:
        for number in range(setup.rounds_count):
            for name in in_turn(listening, number):
                setup.say(f"cancelling, round {number + 1}: {name}")
                took_s, gap_s = asyncio.run(_leave(listening[name], number))
                samples.add(freed, name, took_s)
                samples.add("a step before that s", name, gap_s)
    return Section(
        name="cancel",
        title="Cancelling",
        rows=samples.rows({within: Goal(at_most=1, of_ratio=False)}),
        notes=[
            f"{_SLOTS} slots are taken and a short call waits; then one client hangs up. Over HTTP the time "
            "holds the way there and back and the waiting call's prompt. Steps: the most of "
            f"{len(steps)} trials in the {ENGINE}; counted until the waiting call computes in its place."
        ],
    )


def _steps(setup: Setup, shape: Shape) -> list[int]:
    opening = Opening(
        path=str(setup.path), context=shape.context, threads=setup.threads, parallel=shape.slots_count
    )
    command = python(
        "bench.llama_cancel", msgspec.json.encode(opening).decode(), setup.rounds_count * _TRIALS_A_ROUND
    )
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=_CHILD_S, check=False)  # noqa: S603
    if done.returncode:
        raise BenchError(done.stderr.decode("utf-8", "replace")[-500:])
    return msgspec.json.decode(done.stdout, type=list[int])


async def _leave(server: Server, number: int) -> tuple[float, float]:
    """Seconds from hanging up to the waiting call's first text; seconds between two texts before."""
    running = [Stream(server, body(prompt(1000 * number + i), 900), _SLOTS) for i in range(_SLOTS)]
    waiting = Stream(server, body("Hello?", 1))
    async with session() as client:
        tasks = [asyncio.create_task(one.run(client)) for one in running]
        for one in running:
            await one.begun.wait()
        last = asyncio.create_task(waiting.run(client))
        await asyncio.sleep(0.5)
        if waiting.begun.is_set():
            raise BenchError(f"{server.name}: the waiting call did not wait; {waiting.said.error}")
        left_s = asyncio.get_running_loop().time()
        tasks[number % _SLOTS].cancel()
        await waiting.begun.wait()
        took_s = asyncio.get_running_loop().time() - left_s
        for task in (*tasks, last):
            task.cancel()
        await asyncio.gather(*tasks, last, return_exceptions=True)
    if waiting.said.error:
        raise BenchError(f"{server.name}: {waiting.said.error}")
    return took_s, statistics.median(b - a for a, b in pairwise(running[0].said.arrivals_s))


def leaks(setup: Setup) -> Section:
    """Many short calls, two in five of which are hung up at a random moment; then every slot full."""
    samples, shape = Samples(), Shape(_LEAK_CONTEXT, _SLOTS, _KEPT)
    ours_alone = Setup(path=setup.path, binary=None, say=setup.say, threads=setup.threads)
    with servers(ours_alone, shape) as listening:
        server = listening[ROUTER]
        sizes, left_count, failed = asyncio.run(_many(server, setup))
        full = attempts(server, [body(words(_LEAK_CONTEXT - 64, f"full {i}"), 16) for i in range(_SLOTS)])
    slope, front_slope = (_slope([pair[i] for pair in sizes[len(sizes) // 2 :]]) for i in (0, 1))
    samples.add("calls", ROUTER, setup.calls_count)
    samples.add("of them hung up", ROUTER, left_count)
    samples.add("of them failed", ROUTER, failed)
    samples.add(_SLOPE, ROUTER, slope)
    samples.add(_FRONT_SLOPE, ROUTER, front_slope)
    samples.add(_FULL, ROUTER, sum(one.error is None for one in full))
    flat, none = Goal(at_most=0.1, of_ratio=False), Goal(at_most=0, of_ratio=False)
    return Section(
        name="leak",
        title="Leaks",
        rows=samples.rows(
            {
                "of them failed": none,
                _SLOPE: flat,
                _FRONT_SLOPE: flat,
                _FULL: Goal(at_least=_SLOTS, of_ratio=False),
            }
        ),
        notes=[
            f"{_CLIENTS} clients, {_SLOTS} slots of {_LEAK_CONTEXT} tokens, {_KEPT} for "
            "computed prompts (full in the first half). Slope: a straight line through "
            "the second half of the run. Full: at the end every slot gets a prompt that nearly fills it, all "
            "at once; they only fit together if no KV cell and no slot is lost. RSS of the child at the "
            f"start of the second half {sizes[len(sizes) // 2][0]:.1f} MB, at the end {sizes[-1][0]:.1f} MB; "
            f"of the listening process {sizes[len(sizes) // 2][1]:.1f} and {sizes[-1][1]:.1f} MB."
        ],
    )


async def _many(server: Server, setup: Setup) -> tuple[list[tuple[float, float]], int, int]:
    """RSS of child and listener every hundred calls, calls hung up, calls that failed."""
    numbers, ends = count(), {"left": 0, "failed": 0}
    sizes: list[tuple[float, float]] = []

    async def client_loop(client: aiohttp.ClientSession) -> None:
        while (number := next(numbers)) < setup.calls_count:
            if number % _LOOK_CALLS == 0:
                setup.say(f"leak: {number} calls")
                child, front = (_resident(pid)["VmRSS"] / _MB for pid in (server.pid, server.front_pid))
                sizes.append((child, front))
            end = await _one_of_many(server, client, number)
            if end:
                ends[end] += 1

    async with session() as client, asyncio.TaskGroup() as group:
        for _ in range(_CLIENTS):
            group.create_task(client_loop(client))
    return sizes, ends["left"], ends["failed"]


async def _one_of_many(server: Server, client: aiohttp.ClientSession, number: int) -> str | None:
    """One call of random length; how it ended: left, failed, or None for whole."""
    pick = random.Random(number)  # noqa: S311 - the same calls each time
    stream = Stream(server, _some_body(pick, number))
    if pick.random() >= 0.4:  # noqa: PLR2004 - the share that is not hung up
        said = await stream.run(client)
        return "failed" if said.error else None
    try:
        async with asyncio.timeout(pick.expovariate(2.0)):  # in the queue, in the prompt, or in the answer
            said = await stream.run(client)
    except TimeoutError:
        return "left"
    return "failed" if said.error else None


def _some_body(pick: random.Random, number: int) -> dict[str, Any]:
    """Some share a beginning, most do not."""
    shared = words(40, f"shared {number % 7}") if pick.random() < 0.3 else None  # noqa: PLR2004
    return body(f"{number}{words(pick.randint(1, 60), str(number))}", pick.randint(1, 24), system=shared)


def _slope(sizes: list[float]) -> float:
    """Of the straight line through the sizes, for a thousand calls."""
    if len(sizes) < 2:  # noqa: PLR2004 - a line needs two points
        return 0.0
    return statistics.linear_regression(range(len(sizes)), sizes).slope * 1000 / _LOOK_CALLS
