"""The storm part: how many calls a cloud in trouble is sent, and how soon it is trusted again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from time import perf_counter

from msgspec import Struct

from bench.faulty import Client, Cloud, Mood, routed
from bench.processes import BenchError

TARGET_AMPLIFICATION = 1.2
ALLOWED_COUNT = 3  # retries that are always allowed
SHARES = (1.0, 0.5, 0.3, 0.2)
CLIENTS_COUNT = 16
PAUSE_S = 0.03  # of each client between two calls: together they offer some 400 calls a second
_CLOSED_COUNT = 10  # answers in a row of the cloud that was in trouble
_LONGEST_S = 90.0
_SEED = 20260729
_TIMEOUTS = "{ connect: 1s, first_token: 5s, between_tokens: 5s, total: 20s }"


class Storm(Struct, kw_only=True):
    """One storm.

    Attributes:
        share: of the cloud's answers that are a 503.
        calls_count: of clients, in the storm.
        tried_count: of those that the cloud was sent at least once; from the others the breaker kept it.
        sent_count: of calls that the cloud was sent for them.
        to_close_s: from the storm's end until the cloud serves calls again as if nothing had been.
        unanswered_count: of clients that nobody answered; each was told an error by name.
    """

    share: float
    calls_count: int
    tried_count: int
    sent_count: int
    to_close_s: float
    unanswered_count: int

    @property
    def amplification(self) -> float:
        """Calls sent for each that the cloud was tried for."""
        return self.sent_count / max(1, self.tried_count)

    @property
    def is_met(self) -> bool:
        """Whether the budget held."""
        return self.sent_count <= TARGET_AMPLIFICATION * self.tried_count + ALLOWED_COUNT


def measure(storm_s: float, say: Callable[[str], None]) -> list[Storm]:
    """Let it storm, once for each share."""
    return asyncio.run(_measure(storm_s, say))


async def _measure(storm_s: float, say: Callable[[str], None]) -> list[Storm]:
    weather = _Weather(storm_s)
    cloud, spare = Cloud(weather.mood), Cloud(lambda: "answer")
    aliases = "".join(f"  storm-{at}: {{ try: [stormy/m{at}, spare/m] }}\n" for at in range(len(SHARES)))
    storms = []
    async with routed({"stormy": cloud, "spare": spare}, aliases, timeouts=_TIMEOUTS) as client:
        for at, share in enumerate(SHARES):
            say(f"faults: a storm of {share:.0%}")
            storms.append(await _storm(client, cloud, weather, f"storm-{at}", share))
    return storms


class _Weather:
    """Which share of the cloud's answers fails now, and how long that lasts in a storm."""

    def __init__(self, storm_s: float) -> None:
        self.share = 0.0
        self.storm_s = storm_s
        self._chance = random.Random(_SEED)  # noqa: S311 - the same weather each time

    def mood(self) -> Mood:
        return "fail" if self._chance.random() < self.share else "answer"


async def _storm(client: Client, cloud: Cloud, weather: _Weather, alias: str, share: float) -> Storm:
    await client.ask(alias)
    told: list[str] = []
    cloud.forget()
    weather.share = share
    until_s = perf_counter() + weather.storm_s

    async def one() -> None:
        while perf_counter() < until_s:
            told.append((await client.ask(alias))[0])
            await asyncio.sleep(PAUSE_S)

    await asyncio.gather(*(one() for _ in range(CLIENTS_COUNT)))
    tried_count, sent_count = len(cloud.callers), len(cloud.arrivals_s)
    weather.share = 0.0
    return Storm(
        share=share,
        calls_count=len(told),
        tried_count=tried_count,
        sent_count=sent_count,
        to_close_s=await _closed_after_s(client, alias),
        unanswered_count=sum(who not in {"stormy", "spare"} for who in told),
    )


async def _closed_after_s(client: Client, alias: str) -> float:
    """Seconds until the first of a row of answers by the cloud that was in trouble."""
    began_s = perf_counter()
    since_s, row_count = 0.0, 0
    while row_count < _CLOSED_COUNT:
        at_s = perf_counter() - began_s
        if at_s > _LONGEST_S:
            raise BenchError(f"the breaker has not closed within {_LONGEST_S:g} s")
        who, _ = await client.ask(alias)
        if who != "stormy":
            row_count = 0
        elif row_count == 0:
            since_s, row_count = at_s, 1
        else:
            row_count += 1
        await asyncio.sleep(PAUSE_S)
    return since_s
