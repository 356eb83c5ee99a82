"""The fallback part: what a step that fails costs the call that goes on to the next one."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from time import perf_counter

from msgspec import Struct

from bench.faulty import Client, Cloud, routed
from bench.processes import BenchError

FIRST_TOKEN_S = 0.3
SILENT_COUNT = 40  # models
SILENT_A_ROUND = 10
PAIRS_A_ROUND = 100
_OPENS_COUNT = 5  # failures in a row that open a breaker
SILENT = "silent: the next request, after the timer"
OPEN = "breaker open: added to a call"
GONE = "cannot be reached: added to a call, but for the first"
_TIMEOUTS = f"{{ connect: 250ms, first_token: {FIRST_TOKEN_S:g}s, between_tokens: 5s, total: 20s }}"
_ALIASES = "".join(
    f"  {alias}: {{ retries: 0, try: [{steps}] }}\n"
    for alias, steps in (
        *((f"silent-{number}", f"silent/m{number}, good/m") for number in range(SILENT_COUNT)),
        ("failing-first", "failing/m, good/m"),
        ("closed-first", "closed/m, good/m"),
        ("good-only", "good/m"),
    )
)


class Row(Struct, kw_only=True):
    """One way to fail.  `added_ms` are sorted; `target_ms` is for their median."""

    case: str
    target_ms: float
    added_ms: list[float]

    @property
    def p50_ms(self) -> float:
        """The median."""
        return statistics.median(self.added_ms)

    @property
    def p99_ms(self) -> float:
        """The ninety-ninth of a hundred; of fewer the greatest."""
        return self.added_ms[min(len(self.added_ms) - 1, len(self.added_ms) * 99 // 100)]


def measure(rounds: int, say: Callable[[str], None]) -> list[Row]:
    """Measure every case.

    Args:
        rounds: each is ten silences, of forty at most, and a hundred pairs of calls.
        say: told what is going on.

    Raises:
        BenchError: somebody else answered than had to.
    """
    return asyncio.run(_measure(rounds, say))


async def _measure(rounds: int, say: Callable[[str], None]) -> list[Row]:
    good, silent, failing = Cloud(lambda: "answer"), Cloud(lambda: "silence"), Cloud(lambda: "fail")
    clouds = {"good": good, "silent": silent, "failing": failing}
    async with routed(clouds, _ALIASES, timeouts=_TIMEOUTS, closed=("closed",)) as client:
        for _ in range(20):
            await _good(client, "good-only")
        say("fallback: silent backends")
        rows = [await _silent(client, good, min(SILENT_COUNT, rounds * SILENT_A_ROUND))]
        say("fallback: an open breaker")
        for _ in range(_OPENS_COUNT):
            await _good(client, "failing-first")
        pairs_count = rounds * PAIRS_A_ROUND
        rows.append(await _beside(client, OPEN, "failing-first", pairs_count))
        _check(failing, _OPENS_COUNT)
        say("fallback: a cloud that is not there")
        await _good(client, "closed-first")
        rows.append(await _beside(client, GONE, "closed-first", pairs_count))
    return rows


async def _silent(client: Client, good: Cloud, count: int) -> Row:
    """From the client's request to the next step's, less the timer.  Each silence is another model's."""
    added = []
    for number in range(count):
        began_s = perf_counter()
        await _good(client, f"silent-{number}")
        added.append((good.arrivals_s[-1] - began_s - FIRST_TOKEN_S) * 1000)
    return Row(case=SILENT, target_ms=50.0, added_ms=sorted(added))


async def _beside(client: Client, case: str, alias: str, count: int) -> Row:
    """What a call takes longer than one whose only step is the good one, in turns."""
    added = []
    for number in range(count):
        pair = [alias, "good-only"] if number % 2 else ["good-only", alias]
        took_s = {name: await _good(client, name) for name in pair}
        added.append((took_s[alias] - took_s["good-only"]) * 1000)
    return Row(case=case, target_ms=5.0, added_ms=sorted(added))


async def _good(client: Client, alias: str) -> float:
    """Seconds of a call that the good cloud has answered."""
    who, took_s = await client.ask(alias)
    if who != "good":
        raise BenchError(f"{alias} was answered by {who}")
    return took_s


def _check(failing: Cloud, count: int) -> None:
    """An open breaker that lets calls through would be measured as something else."""
    if len(failing.arrivals_s) != count:
        raise BenchError(f"the failing cloud was asked {len(failing.arrivals_s)} times, not {count}")
