"""The gateway part: what a call costs in the router, in a bare proxy and in nginx, in the same minutes."""

from __future__ import annotations

import os
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable

from msgspec import Struct

from bench.answers import LOADS, Load
from bench.load import Plan, Result
from bench.processes import BenchError, Child, python
from bench.subjects import BARE, DIRECT, Subject, field

TARGET_RATIO = 2.5  # CPU a call, of the bare aiohttp proxy's
CONNECTIONS = (1, 16, 128)
_MARGIN_S = 90.0


class Row(Struct, kw_only=True):
    """One gateway under one load: medians over the rounds.

    Attributes:
        cpu_ms: user and system time of the whole process tree, a call.
        cpu_ratio: `cpu_ms` of the bare proxy's in the same round.
        busy: share of its core that the gateway used; what is well below 1 was not the limit.
        added_p50_ms, added_p99_ms: above upstream's own in the same round; of the first byte of the
            answer's body for streams, of the whole answer for plain calls.
    """

    load: str
    is_paced: bool
    connections_count: int
    gateway: str
    calls_count: int
    calls_per_s: float
    cpu_ms: float | None = None
    cpu_ratio: float | None = None
    busy: float | None = None
    added_p50_ms: float | None = None
    added_p99_ms: float | None = None


class Gateways(Struct, kw_only=True):
    """The whole part."""

    rows: list[Row]
    skipped: list[str]
    rounds_count: int
    pinning: str


Round = dict[str, Result]
"""Gateway → what it did, in one round of one cell."""


def measure(
    rounds_count: int, seconds: float, connections: Iterable[int], say: Callable[[str], None]
) -> Gateways:
    """Measure every gateway under every load, one after the other, round by round.

    Raises:
        BenchError: something did not start, or did not answer.
    """
    load_core, gateway_core, pinning = _cores()
    cells = [(load, count) for load in LOADS for count in connections]
    rounds: dict[tuple[str, int], list[Round]] = defaultdict(list)
    with field(load_core, gateway_core) as there, Child(python("bench.load"), cores={load_core}) as generator:
        for number in range(rounds_count):
            for load, count in cells:
                say(f"round {number + 1} of {rounds_count}: {load.title}, {count} at once")
                rounds[load.name, count].append(
                    {one.name: _run(generator, one, load, count, seconds) for one in there.subjects}
                )
    rows = [row for load, count in cells for row in _rows(load, count, rounds[load.name, count])]
    return Gateways(rows=rows, skipped=there.skipped, rounds_count=rounds_count, pinning=pinning)


def _cores() -> tuple[int, int, str]:
    """One core for load and upstream, one for whichever gateway is measured."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        return cores[0], cores[0], "everything on the only core there is: calls/s mean little"
    return (
        cores[0],
        cores[1],
        f"load and upstream on core {cores[0]}, gateways on core {cores[1]}, one at a time",
    )


def _run(generator: Child, subject: Subject, load: Load, count: int, seconds: float) -> Result:
    plan = Plan(
        port=subject.port, load=load.name, connections_count=count, seconds=seconds, pids=subject.pids
    )
    try:
        return generator.ask(plan, Result, seconds + _MARGIN_S)
    except BenchError as error:
        raise BenchError(f"{subject.name}, {load.title}, {count} at once: {error}") from error


def _rows(load: Load, count: int, rounds: list[Round]) -> list[Row]:
    """One row a gateway."""
    return [_row(load, count, name, rounds) for name in rounds[0]]


def _row(load: Load, count: int, name: str, rounds: list[Round]) -> Row:
    mine = [one[name] for one in rounds]
    row = Row(
        load=load.title,
        is_paced=load.gap_s > 0,
        connections_count=count,
        gateway=name,
        calls_count=sum(one.calls_count for one in mine),
        calls_per_s=statistics.median(one.calls_count / one.seconds for one in mine),
    )
    if name != DIRECT:
        kind = "first" if load.stream else "whole"
        row.cpu_ms = statistics.median(map(_cpu_ms, mine))
        row.cpu_ratio = statistics.median(_cpu_ms(one[name]) / _cpu_ms(one[BARE]) for one in rounds)
        row.busy = statistics.median(one.cpu_s / one.seconds for one in mine)
        row.added_p50_ms = _added(rounds, name, f"{kind}_p50_ms")
        row.added_p99_ms = _added(rounds, name, f"{kind}_p99_ms")
    return row


def _cpu_ms(result: Result) -> float:
    return max(result.cpu_s, 1e-9) / result.calls_count * 1000


def _added(rounds: list[Round], name: str, kind: str) -> float | None:
    """The median difference to upstream itself; None where a percentile is not known."""
    pairs = [(getattr(one[name], kind), getattr(one[DIRECT], kind)) for one in rounds]
    known = [mine - direct for mine, direct in pairs if mine is not None and direct is not None]
    return statistics.median(known) if known else None
