"""One account's day: what is spent, reserved, and left.  Pure.

Cloudflare counts by UTC days, each call when it is computed.  So what is reserved counts as used until it is
settled, and a call that runs past midnight counts in both days: in the old one as reserved, in the new one as
reserved and then as settled.  Whichever moment Cloudflare takes, neither day gets more than its share.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from msgspec import Struct

from hybrid_router.config import cloud_schema
from hybrid_router.routing.ledger import NEURON_USD, Allowance, daily_most, pace
from hybrid_router.routing.moments import DAY_S, STEP_S, Moment, Recent, Watch

_SKEW = timedelta(minutes=5)  # a day's end at Cloudflare and here are not the same instant


class State(Struct, frozen=True, kw_only=True):
    """What outlives the process of one account's day.

    Attributes:
        day: UTC.
        spent: neurons of calls that are settled.
        most: neurons that may be spent or reserved before the next state is written: after a crash it is not
            known how much of them was.
        recent: neurons of the last 24 hours, whatever the clock on the wall said.
        wall_s, elapsed_s: when this was written: Unix time, and seconds since the machine's start.
        boot: names that start.
        doubtful: the clock on the wall had been set lately.
        refused_until_s: Unix time until which Cloudflare's own refusal holds.
    """

    day: date
    spent: float
    most: float
    recent: float
    wall_s: float
    elapsed_s: float
    boot: str
    doubtful: bool = False
    refused_until_s: float | None = None


class Day:
    """One account's day.  Whoever owns it passes the time in.

    The clock on the wall says which day it is.  When it was set, nobody knows whether it is right now or was
    before: then, for two days, no 24 hours in a row may use more than a day's neurons either, which holds
    whenever Cloudflare's midnight is.

    Attributes:
        turns_count: how often it began anew; a clock that goes back and forth may name one date twice.
    """

    def __init__(self, now: Moment) -> None:
        self.turns_count = 0
        self._date = now.day
        self._spent = 0.0
        self._reserved: dict[int, float] = {}
        self._recent = Recent()
        self._watch = Watch(now)
        self._refused_until_s: float | None = None  # of elapsed time

    @property
    def date(self) -> date:
        """The day that is counted."""
        return self._date

    @property
    def reserved(self) -> float:
        """Neurons of calls that run."""
        return sum(self._reserved.values())

    def spent(self, now: Moment) -> float:
        """Neurons of calls that are settled."""
        self._turn(now)
        return self._spent

    def used(self, now: Moment) -> float:
        """Neurons that are spent or reserved."""
        return self.spent(now) + self.reserved

    def allowance(self, config: cloud_schema.Neurons, now: Moment) -> Allowance:
        """What may be used now."""
        self._turn(now)
        if self._refused_until_s is not None:
            until = now.wall + timedelta(seconds=self._refused_until_s - now.elapsed_s + 0.5)
            until = until.replace(microsecond=0)
            because = f"Cloudflare says that the day's neurons are spent; {_renewed(until)}"
            return Allowance(neurons=0, reserve_neurons=0, because=because, until=until)
        held, until, why = self._held_back(config, now)
        counted = self._counted(now) + self.reserved
        left = held - counted
        own = max(0.0, config.daily - counted)
        return Allowance(
            neurons=max(0.0, left - config.reserve),
            reserve_neurons=max(0.0, left),
            overflow_usd=max(0.0, left - config.reserve - own) * NEURON_USD,
            because="; ".join(why),
            until=until,
        )

    def reserve(
        self, config: cloud_schema.Neurons, name: int, neurons: float, now: Moment, *, may_use_reserve: bool
    ) -> Allowance | None:
        """Count `neurons` as used until they are settled, or say what there is instead."""
        self._turn(now)
        left = self._limit(config, now) - self._counted(now) - self.reserved
        if not may_use_reserve:
            left -= config.reserve
        if self._refused_until_s is not None or neurons > max(0.0, left):
            return self.allowance(config, now)  # with its reasons, which are not made for every call
        self._reserved[name] = neurons
        return None

    def settle(self, name: int, neurons: float, now: Moment) -> None:
        """Count what a reserved call has used, today; a call that is not reserved, not."""
        self._turn(now)
        if self._reserved.pop(name, None) is None:
            return
        self._spent += neurons
        self._recent.add(neurons, now.elapsed_s)

    def refused(self, now: Moment) -> None:
        """Cloudflare says that the day's neurons are spent, whatever was counted here.

        Just after midnight it may mean the day that ended: then it is asked again a little later.
        """
        wall = now.wall.astimezone(UTC)
        began = datetime.combine(wall.date(), time(), UTC)
        until = began + _SKEW if wall - began < _SKEW else next_midnight(wall)
        self._refused_until_s = now.elapsed_s + (until - wall).total_seconds()

    def ask_again(self) -> None:
        """Forget what Cloudflare said: somebody may have changed the account's plan."""
        self._refused_until_s = None

    def state(self, most: float, now: Moment) -> State:
        """What to write down; `most` as in `State`."""
        self._turn(now)
        until_s = self._refused_until_s
        wall_s = now.wall.timestamp()
        return State(
            day=self._date,
            spent=self._spent,
            most=max(most, self._spent + self.reserved),
            recent=self._recent.sum(now.elapsed_s),
            wall_s=wall_s,
            elapsed_s=now.elapsed_s,
            boot=now.boot,
            doubtful=self._watch.doubtful(now),
            refused_until_s=None if until_s is None else wall_s + until_s - now.elapsed_s,
        )

    @classmethod
    def restored(cls, state: State, now: Moment) -> Day:
        """The day as another process left it.  What was open then counts as spent."""
        day = cls(now)
        passed_s = _passed_s(state, now)
        set_s = now.wall.timestamp() - state.wall_s - passed_s
        if state.doubtful or passed_s < 0 or abs(set_s) > STEP_S:
            day._watch.doubt(now)
        day._date = max(now.day, state.day)
        left_open = state.most - state.spent
        if now.day <= state.day:
            day._spent = state.most
        elif passed_s < 2 * DAY_S:  # a call that ran past midnight may have used them on either day
            day._spent = left_open
        if passed_s < 2 * DAY_S:
            day._recent.add(state.recent + left_open, now.elapsed_s)
        if state.refused_until_s is not None:
            left_s = min(state.refused_until_s - state.wall_s - passed_s, DAY_S)
            day._refused_until_s = now.elapsed_s + left_s
        day._turn(now)
        return day

    def _limit(self, config: cloud_schema.Neurons, now: Moment) -> float:
        """Neurons that may be gone now."""
        paced = pace(config, now.wall.astimezone(UTC)) if config.pace else None
        return daily_most(config) if paced is None else paced[0]

    def _held_back(self, config: cloud_schema.Neurons, now: Moment) -> tuple[float, datetime, list[str]]:
        """Neurons that may be gone now, when there are more, and what holds the rest back."""
        wall = now.wall.astimezone(UTC)
        reserve = [f"{config.reserve:,.0f} neurons are kept in reserve"] if config.reserve else []
        paced = pace(config, wall)
        if paced is not None:
            limit, until = paced
            return limit, until, [f"the pace allows no more before {until:%H:%M} UTC", *reserve]
        limit = daily_most(config)
        until = next_midnight(wall)
        return limit, until, [_renewed(until), *reserve, *self._doubt(now)]

    def _doubt(self, now: Moment) -> list[str]:
        if not self._watch.doubtful(now):
            return []
        return ["this machine's clock was set, so the last 24 hours count as one day"]

    def _counted(self, now: Moment) -> float:
        """What counts as spent."""
        if self._watch.doubtful(now):
            return max(self._spent, self._recent.sum(now.elapsed_s))
        return self._spent

    def _turn(self, now: Moment) -> None:
        """Begin a new day if it is one.

        A clock that goes back gives nothing again: what is spent stays spent.  But if it was set, it names
        the day all the same, or one that was ahead for a minute would hold every call back for days.
        """
        self._watch.look(now)
        if now.day > self._date:
            self._date, self._spent = now.day, 0.0
            self.turns_count += 1
        elif self._watch.doubtful(now):
            self._date = now.day
        if self._refused_until_s is not None and now.elapsed_s >= self._refused_until_s:
            self._refused_until_s = None


def _passed_s(state: State, now: Moment) -> float:
    """Seconds since a state was written; 0 where no clock can be asked.  Below 0: the wall's went back."""
    if state.boot == now.boot and now.elapsed_s >= state.elapsed_s:
        return now.elapsed_s - state.elapsed_s
    return 0.0 if state.doubtful else now.wall.timestamp() - state.wall_s


def next_midnight(now: datetime) -> datetime:
    """When the next UTC day begins."""
    return datetime.combine(now.astimezone(UTC).date() + timedelta(days=1), time(), UTC)


def _renewed(until: datetime) -> str:
    return f"renewed at {until.astimezone(UTC):%H:%M} UTC"
