"""Simulated days: random calls, crashes, and a clock that is set, against a meter that stands outside.

The outside meter knows the true time and the true cost of every call, which the router only estimates.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st
from kept_notes import START, KeptNotes, SetClock

from hybrid_router.config.cloud_schema import Neurons
from hybrid_router.core.call import Call, Operation, Sampling
from hybrid_router.core.errors import BackendBusy, BackendTimeout, QuotaExhausted, RouterError, StreamBroken
from hybrid_router.core.event import Text, Usage
from hybrid_router.core.step import Step, Timeouts
from hybrid_router.dispatch.meter import Meter
from hybrid_router.dispatch.metered import Metered
from hybrid_router.dispatch.record import Attempt
from hybrid_router.routing.ledger import Rate

DAILY = 10_000.0
RATE = Rate(input=1_000_000, output=2_000_000, cached_input=1_000_000)
WAITS = Timeouts(connect_s=1, load_s=1, first_token_s=1, between_tokens_s=1, total_s=1)
STEP = Step(backend="cf", model="m", timeouts=WAITS, because="")
PACE = {"06:00": 0.2, "12:00": 0.5, "18:00": 0.8}


@dataclass(frozen=True)
class Ask:
    """A call: what is estimated, and what is true: prompts up to twice, answers up to their limit."""

    prompt_tokens: int
    max_tokens: int
    prompt_factor: float
    answer_share: float
    shown_factor: float

    @property
    def call(self) -> Call:
        sampling = Sampling(max_tokens=self.max_tokens)
        return Call(id="c", operation=Operation.CHAT, alias="a", sampling=sampling)

    @property
    def true_prompt(self) -> int:
        return int(self.prompt_tokens * self.prompt_factor)

    @property
    def true_answer(self) -> int:
        return int(self.max_tokens * self.answer_share)

    @property
    def true_cost(self) -> float:
        return self.true_prompt + 2.0 * self.true_answer


@dataclass(frozen=True)
class Burst:
    """Calls that come at once."""

    asks: list[Ask]


@dataclass(frozen=True)
class End:
    """Calls that run end so: `told` their usage or not, `cut`, `silent`, or `busy`."""

    count: int
    how: str


@dataclass(frozen=True)
class Wait:
    """Time goes by."""

    minutes: int


@dataclass(frozen=True)
class SetWall:
    """Somebody sets the clock on the wall, so far from the truth."""

    minutes: int


@dataclass(frozen=True)
class Crash:
    """The process dies; `reboot`: the machine does."""

    reboot: bool


@dataclass(frozen=True)
class Restart:
    """The process ends as it should, and begins again."""


@dataclass(frozen=True)
class Tidy:
    """The note is brought up to date."""


Deed: TypeAlias = Burst | End | Wait | SetWall | Crash | Restart | Tidy

HOWS = ["told", "told", "untold", "cut", "silent", "busy"]
KINDS = ["burst"] * 5 + ["end"] * 5 + ["wait"] * 4 + ["wall"] + ["process"] * 3


def happening(seed: int, jumps: list[int]) -> list[Deed]:
    """What happens in some days, drawn from a seed; `jumps`: minutes by which the clock is set wrong."""
    chance = random.Random(seed)  # noqa: S311 - a simulation
    return [_deed(chance, jumps) for _ in range(chance.randint(5, 120))]


def _deed(chance: random.Random, jumps: list[int]) -> Deed:
    match chance.choice(KINDS):
        case "burst":
            return Burst([_drawn(chance) for _ in range(chance.randint(1, 6))])
        case "end":
            return End(chance.randint(1, 6), chance.choice(HOWS))
        case "wait":
            return Wait(chance.choice([1, 30, 180, 400, 719]))
        case "wall":
            return SetWall(chance.choice(jumps))
    ailments: list[Deed] = [Crash(reboot=False), Crash(reboot=True), Restart(), Tidy()]
    return chance.choice(ailments)


def _drawn(chance: random.Random) -> Ask:
    return Ask(
        prompt_tokens=chance.randint(0, 1500),
        max_tokens=chance.randint(0, 1000),
        prompt_factor=chance.uniform(0.3, 2.0),
        answer_share=chance.choice([0.0, 0.3, 1.0]),
        shown_factor=chance.uniform(0.67, 2.0),
    )


class Outside:
    """What Cloudflare counts, by UTC day: once when a call begins, once when it ends."""

    def __init__(self) -> None:
        self.begun: dict[date, float] = defaultdict(float)
        self.ended: dict[date, float] = defaultdict(float)
        self.marks: list[tuple[datetime, float]] = []  # when, and what the day's own calls had used then
        self._own: dict[date, float] = defaultdict(float)

    def count(self, began: datetime, ended: datetime, neurons: float) -> None:
        self.begun[began.date()] += neurons
        self.ended[ended.date()] += neurons
        if began.date() == ended.date():
            self._own[ended.date()] += neurons
            self.marks.append((ended, self._own[ended.date()]))


@dataclass
class World:
    """The router's meter, the truth, and what happens."""

    config: Neurons
    clock: SetClock = field(default_factory=SetClock)
    notes: KeptNotes = field(default_factory=KeptNotes)
    outside: Outside = field(default_factory=Outside)
    running: list[tuple[Ask, Attempt, datetime]] = field(default_factory=list)
    set_at: datetime = START
    used_count: int = 0
    meter: Meter = field(init=False)

    async def begin(self) -> None:
        """A process starts."""
        self.meter = Meter(self.notes, now=self.clock)
        await self.meter.open()
        backend = Metered(account="one", neurons=self.config, default_max_tokens=1)
        self.meter.configure({"cf": backend}, {STEP.name: RATE})
        await _turns()

    async def do(self, deed: Deed) -> None:
        """Let one thing happen."""
        match deed:
            case Burst(asked):
                await asyncio.gather(*(self._ask(ask) for ask in asked))
            case End(count, how):
                self._end_many(min(count, len(self.running)), how)
            case Wait(minutes):
                self._wait(minutes)
            case SetWall(minutes):
                self.clock.off, self.set_at = timedelta(minutes=minutes), self.clock.true
            case _:
                await self._ail(deed)

    async def _ail(self, deed: Deed) -> None:
        """Let something happen to the process."""
        match deed:
            case Crash(reboot):
                self._crash(reboot=reboot)
                await self.begin()
            case Restart():
                self._end_many(len(self.running), "told")
                await self.meter.close()
                await self.begin()
            case _:
                for account in self.meter._accounts.values():
                    account.note_within(0.0)
                await _turns()

    def _end_many(self, count: int, how: str) -> None:
        for _ in range(count):
            self._end(how)

    def _wait(self, minutes: int) -> None:
        """No clock stays wrong for longer than a day and a half."""
        self.clock.pass_(minutes=minutes)
        if self.clock.off and self.clock.true - self.set_at > timedelta(hours=24):
            self.clock.off, self.set_at = timedelta(), self.clock.true

    async def _ask(self, ask: Ask) -> None:
        row = Attempt(backend="cf", model="m", started_s=0.0)
        try:
            await self.meter.reserve(ask.call, STEP, row, ask.prompt_tokens, may_use_reserve=False)
        except QuotaExhausted:
            return
        self.running.append((ask, row, self.clock.true))

    def _end(self, how: str) -> None:
        ask, row, began = self.running.pop(0)
        neurons, error = _ended(ask, row, how)
        self.meter.settle(ask.call, row, error)
        self._count(began, neurons)

    def _count(self, began: datetime, neurons: float) -> None:
        self.outside.count(began, self.clock.true, neurons)
        self.used_count += 1

    def _crash(self, *, reboot: bool) -> None:
        """Nobody settles anything.  Cloudflare has computed what it has computed."""
        for ask, _, began in self.running:
            self._count(began, ask.true_cost)
        self.running.clear()
        for account in self.meter._accounts.values():
            account._stop_timer()
            if account._writer is not None:
                account._writer.cancel()
        if reboot:
            self.clock.reboot()
            self.set_at = self.clock.true


def _ended(ask: Ask, row: Attempt, how: str) -> tuple[float, RouterError | None]:
    """What a call has truly cost, and what it looks like from here."""
    match how:
        case "told":
            row.usage = Usage(prompt_tokens=ask.true_prompt, completion_tokens=ask.true_answer)
            return ask.true_cost, None
        case "busy":
            return 0.0, BackendBusy("no capacity")
        case "silent":
            return float(ask.true_prompt), BackendTimeout("silent")
        case _:
            row.note([Text("x" * (4 * round(ask.true_answer * ask.shown_factor)))], 1.0)
            return ask.true_cost, StreamBroken("cut") if how == "cut" else None


async def _turns() -> None:
    """Let tasks run that need nothing but their turn."""
    for _ in range(10):
        await asyncio.sleep(0)


async def _lived(world: World, happens: list[Deed]) -> None:
    await world.begin()
    for deed in happens:
        await world.do(deed)
    world._crash(reboot=False)
    await _turns()


def lived(config: Neurons, happens: list[Deed]) -> World:
    """The world after all this."""

    async def live() -> World:
        world = World(config)
        await _lived(world, happens)
        return world

    return asyncio.run(live())


SEEDS = st.integers(0, 2**32)
JUMPS = [*range(-3 * 1440, 3 * 1440, 97), *[0] * 20]
WHOLE_DAYS = [-3 * 1440, -1440, 0, 1440, 3 * 1440]


@settings(max_examples=300)
@given(SEEDS)
def test_no_utc_day_ever_costs_more_than_its_neurons(seed: int) -> None:
    """Whichever of its moments Cloudflare counts a call by, and whatever was done to clock and process."""
    world = lived(Neurons(daily=DAILY), happening(seed, JUMPS))

    assert max(world.outside.begun.values(), default=0.0) <= DAILY
    assert max(world.outside.ended.values(), default=0.0) <= DAILY


def allowed(at: datetime) -> float:
    """Neurons that the pace lets be gone."""
    clock = f"{at:%H:%M}"
    return next((share for until, share in PACE.items() if clock < until), 1.0) * DAILY


@settings(max_examples=200)
@given(SEEDS)
def test_the_pace_is_held(seed: int) -> None:
    """At no moment of a day have its own calls used more than their share."""
    world = lived(Neurons(daily=DAILY, pace=PACE), happening(seed, WHOLE_DAYS))

    assert all(gone <= allowed(at) for at, gone in world.outside.marks)


@settings(max_examples=100)
@given(SEEDS, st.floats(0, 0.1), st.integers(0, 3000))
def test_dollars_and_reserve_are_held_too(seed: int, usd: float, reserve: int) -> None:
    """Calls that may not use the reserve leave it, and the dollars' cap holds."""
    config = Neurons(daily=DAILY, overflow_usd=usd, reserve=reserve)
    world = lived(config, happening(seed, JUMPS))

    most = max(DAILY + usd / 0.000011 - reserve, 0.0)
    assert max(world.outside.ended.values(), default=0.0) <= most + 1e-6


def test_a_day_can_be_used_almost_whole() -> None:
    """What holds back does not hold back more than it must: a busy day uses over 95 %, every day anew."""
    ask = Ask(prompt_tokens=20, max_tokens=50, prompt_factor=1.0, answer_share=1.0, shown_factor=1.0)
    busy: list[Deed] = [each for _ in range(3 * 288) for each in (Burst([ask]), End(1, "told"), Wait(5))]
    world = lived(Neurons(daily=DAILY), busy)
    whole = [neurons for day, neurons in world.outside.ended.items() if day != START.date()]

    assert world.used_count > 200
    assert len(whole) == 3
    assert 0.95 * DAILY < whole[0] <= DAILY


def test_a_paced_day_uses_each_share() -> None:
    """A stream of calls uses over 95 % of what each stage allows, and not more."""
    ask = Ask(prompt_tokens=50, max_tokens=50, prompt_factor=1.0, answer_share=1.0, shown_factor=1.0)
    midnight = [Wait(12 * 60)]
    busy: list[Deed] = [each for _ in range(720) for each in (Burst([ask]), End(1, "told"), Wait(2))]
    world = lived(Neurons(daily=DAILY, pace=PACE), [*midnight, *busy])
    day = START.date() + timedelta(days=1)

    for until, share in PACE.items():
        stage = datetime.combine(day, time.fromisoformat(until), UTC)
        gone = max(neurons for at, neurons in world.outside.marks if at.date() == day and at < stage)
        assert 0.95 * share * DAILY < gone <= share * DAILY


def refusing(day_costs: float) -> Callable[[World], bool]:
    """Whether Cloudflare refuses: another machine uses the same account, so it counts more than we do."""

    def refuses(world: World) -> bool:
        return world.outside.ended[world.clock.true.date()] >= day_costs

    return refuses


def test_after_a_refusal_exactly_one_call_a_day_reached_the_cloud() -> None:
    """Somebody else uses up the account: one refused call a day, across restarts, and none more."""
    ask = Ask(prompt_tokens=20, max_tokens=50, prompt_factor=1.0, answer_share=1.0, shown_factor=1.0)
    refused: dict[date, int] = defaultdict(int)
    refuses = refusing(day_costs=3000)

    async def live() -> None:
        world = World(Neurons(daily=DAILY))
        await world.begin()
        for turn in range(3 * 288):
            await world.do(Burst([ask]))
            if world.running and refuses(world):
                gone, row, _ = world.running.pop()
                refused[world.clock.true.date()] += 1
                world.meter.settle(gone.call, row, QuotaExhausted("4006"))
                await _turns()
            await world.do(End(1, "told"))
            if turn % 7 == 0:
                await world.do(Crash(reboot=turn % 2 == 0))
            await world.do(Wait(5))

    asyncio.run(live())
    assert len(refused) >= 3
    assert set(refused.values()) == {1}
