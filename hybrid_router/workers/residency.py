"""Which models are in memory: who waits, who is loaded, who has to go.  Pure: events in, decisions out.

Calls for a model that is resident go first, for as long as nobody has waited `swap_wait_s` for another one;
then it takes no new calls, ends those it has, and makes room.  A model that has just been idle stays for as
long as it took to load, so that calls that come one after the other do not find it gone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import Enum

from msgspec import Struct, field

from hybrid_router.core.space import NO_SPACE, UNLIMITED, Space, shown

_HALF_LIFE_S = 600.0  # of a use, when it is guessed whether there will be another
_LOAD_S = 5.0  # of a model that was not loaded yet
_LOOK_AGAIN_S = 5.0  # whether other programs gave memory back
_MORE_ROOM = 1.1  # than what was too little


class Phase(Enum):
    """Where a model is."""

    ABSENT = "absent"
    LOADING = "loading"
    RESIDENT = "resident"
    LEAVING = "leaving"


class Terms(Struct, frozen=True, kw_only=True):
    """What router.yaml says of a model's stay.

    Attributes:
        pinned: it is not evicted once it is resident.
        idle_s: it is evicted once nobody has used it for so long; None: never for that.
        memory_bytes: what it needs at least, whatever is estimated or measured.
    """

    pinned: bool = False
    idle_s: float | None = None
    memory_bytes: int | None = None


class Budget(Struct, frozen=True, kw_only=True):
    """What models may take together, and how long a call may wait while others are answered."""

    space: Space = UNLIMITED
    swap_wait_s: float = 10.0


class Tenant(Struct, kw_only=True, eq=False):
    """What is known of one model.  Only `Residency` writes it.

    Attributes:
        name: for people.
        need: what it is counted for: an estimate first, then what was measured.
        estimate: what a load is thought to take.
        ready: it may be loaded: it is not being ended, nor resting after a crash.
        wish: it is to be loaded when there is room; nobody is evicted for that.
        wanted_s: since when it is wanted by calls that were answered elsewhere.
        waiting: calls that wait for it, by when they came.
        granted: calls that it may answer and that have not begun.
        running_count: calls that have.
        closed: it takes no new calls: others have waited long enough.
        short: there is no room for it now.
        too_little: the room that was not enough for it.
    """

    name: str
    terms: Terms
    need: Space = NO_SPACE
    estimate: Space = NO_SPACE
    phase: Phase = Phase.ABSENT
    ready: bool = False
    wish: bool = False
    wanted_s: float | None = None
    waiting: dict[int, float] = field(default_factory=dict)
    granted: set[int] = field(default_factory=set)
    running_count: int = 0
    idle_since_s: float = 0.0
    load_s: float = _LOAD_S
    uses: float = 0.0
    uses_at_s: float = 0.0
    closed: bool = False
    short: bool = False
    too_little: Space | None = None

    @property
    def takes_room(self) -> bool:
        """Whether it is counted."""
        return self.phase is not Phase.ABSENT

    @property
    def busy(self) -> bool:
        """Whether evicting it would cut something off."""
        if self.phase is Phase.LOADING:
            return bool(self.waiting) or self.wish or self.wanted_s is not None
        return self.running_count > 0 or bool(self.granted)

    @property
    def asked_s(self) -> float | None:
        """When the first came who is still waiting."""
        times = [*self.waiting.values()] if self.wanted_s is None else [*self.waiting.values(), self.wanted_s]
        return min(times, default=None)

    def used(self, now_s: float) -> None:
        """Count a use; older ones count less and less."""
        self.uses = self.uses_now(now_s) + 1.0
        self.uses_at_s = now_s

    def uses_now(self, now_s: float) -> float:
        """Uses, as far as they still count."""
        return self.uses * math.exp2(-max(0.0, now_s - self.uses_at_s) / _HALF_LIFE_S)

    def worth(self, lacking: Space, now_s: float) -> float:
        """Seconds of loading that are likely saved by keeping it, for each byte of what is lacking."""
        likely = 1.0 - math.exp(-self.uses_now(now_s))
        return self.load_s * likely / max(1, _given(self.need, lacking))


class Decision(Struct, frozen=True, kw_only=True):
    """What is to be done now.  Keys are those of `Residency.enter`.

    Attributes:
        start: load these.
        evict: end these; none has work.
        again_s: decide again then, even if nothing happens.
    """

    start: tuple[int, ...] = ()
    evict: tuple[int, ...] = ()
    again_s: float | None = None


class Residency:
    """The books of every model of this process, of all configurations together."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.tenants: dict[int, Tenant] = {}
        self._within = budget.space
        self._last_key = 0
        self._last_ticket = 0

    def enter(self, name: str, terms: Terms, *, wish: bool = False) -> int:
        """A model that may be asked for from now on; its key."""
        self._last_key += 1
        self.tenants[self._last_key] = Tenant(name=name, terms=terms, wish=wish)
        return self._last_key

    def leave(self, key: int) -> None:
        """A model that is gone for good."""
        self.tenants.pop(key, None)

    @property
    def somebody_waits(self) -> bool:
        """Whether a model is to be loaded, for a call or for a wish."""
        return any(
            tenant.wish or tenant.asked_s is not None
            for tenant in self.tenants.values()
            if tenant.phase in {Phase.ABSENT, Phase.LEAVING}
        )

    def estimated(self, key: int, need: Space) -> None:
        """What a load will take, as far as its files tell."""
        tenant = self.tenants[key]
        tenant.estimate = _declared(tenant.terms, need) or need
        if not tenant.takes_room:
            tenant.need = tenant.estimate

    def rest(self, key: int, *, ready: bool) -> None:
        """It may be loaded, or not for now."""
        self.tenants[key].ready = ready

    def ask(self, key: int, now_s: float) -> int:
        """A call has come for a model; its ticket.  It may begin once that is granted."""
        tenant = self.tenants[key]
        self._last_ticket += 1
        tenant.used(now_s)
        if tenant.phase is Phase.RESIDENT and not tenant.closed:
            tenant.granted.add(self._last_ticket)
        else:
            tenant.waiting[self._last_ticket] = now_s
        return self._last_ticket

    def withdraw(self, key: int, ticket: int, now_s: float) -> None:
        """A call has begun, or was given up."""
        if (tenant := self.tenants.get(key)) is not None:
            tenant.waiting.pop(ticket, None)
            if ticket in tenant.granted:
                tenant.granted.remove(ticket)
                tenant.idle_since_s = now_s

    def want(self, key: int, now_s: float) -> None:
        """Calls for a model are answered elsewhere until it is there."""
        tenant = self.tenants[key]
        tenant.used(now_s)
        if tenant.phase is Phase.ABSENT and tenant.wanted_s is None:
            tenant.wanted_s = now_s

    def runs(self, key: int, count: int) -> None:
        """So many calls of a model have begun and not ended."""
        self.tenants[key].running_count = count

    def rested(self, key: int, now_s: float) -> None:
        """Its last call has just ended."""
        if (tenant := self.tenants.get(key)) is not None:
            tenant.idle_since_s = now_s

    def opened(self, key: int, now_s: float, *, load_s: float, measured: Space | None) -> None:
        """It is resident.  Whoever waits for it may begin, even if it has to go again after that."""
        tenant = self.tenants[key]
        tenant.load_s, tenant.idle_since_s = max(load_s, 0.001), now_s
        tenant.wish, tenant.wanted_s, tenant.too_little = False, None, None
        if tenant.phase is Phase.LOADING:
            tenant.phase = Phase.RESIDENT
            self._grant(tenant)
        if measured is not None:
            tenant.need = measured.most(_declared(tenant.terms, tenant.estimate) or NO_SPACE)
            tenant.estimate = tenant.need.least(self.budget.space)  # it has been loaded: so it can be again

    def weighed(self, key: int, measured: Space) -> None:
        """What it takes now.  What it took once it will take again."""
        tenant = self.tenants[key]
        if tenant.phase is Phase.RESIDENT:
            tenant.need = tenant.need.most(measured)

    def gone(self, key: int, *, again: bool = False) -> None:
        """Its process is reaped.  `again`: it ended by itself, and is to be loaded as before."""
        tenant = self.tenants[key]
        tenant.phase, tenant.need, tenant.closed = Phase.ABSENT, tenant.estimate, False
        tenant.ready, tenant.running_count = False, 0
        tenant.wish |= again
        tenant.wanted_s = None
        for ticket in sorted(tenant.granted):
            tenant.waiting[ticket] = tenant.idle_since_s
        tenant.granted.clear()

    def burst(self, key: int) -> None:
        """Memory ran out while it was there: what it had was too little for it."""
        tenant = self.tenants[key]
        others = _sum(other.need for other in self.tenants.values() if other.takes_room and other != tenant)
        tenant.too_little = (self._within - others).most(tenant.need)
        tenant.wish = False

    def why_not(self, key: int, *, only_passing: bool = False) -> str | None:
        """Why a model cannot be loaded however long one waits; None if it can.

        `only_passing`: if that may change by itself.
        """
        never = self._why_never(key)
        return self._why_short(key) if never is None else None if only_passing else never

    def _why_never(self, key: int) -> str | None:
        """What only another configuration changes."""
        tenant = self.tenants[key]
        if tenant.phase in {Phase.LOADING, Phase.RESIDENT}:
            return None
        if not tenant.need.fits(self.budget.space):
            return _too_big(tenant.need, self.budget.space)
        left = self.budget.space - self._pinned_before(key)
        if not tenant.need.fits(left):
            lacking = tenant.need.beyond(left)
            said = _said(tenant.need, left, lacking)
            return f"{said} beside pinned models; unpin one, or raise {_key(lacking)}"
        return None

    def _why_short(self, key: int) -> str | None:
        """What may change by itself: other programs have the memory, or it ran out last time."""
        tenant = self.tenants[key]
        if tenant.phase in {Phase.LOADING, Phase.RESIDENT}:
            return None
        left = self._within - self._pinned_before(key)
        if not tenant.need.fits(left):
            said = _said(tenant.need, left, tenant.need.beyond(left))
            return f"{said}, other programs have the rest; end some, or choose smaller weights"
        if tenant.too_little is not None and left.ram_bytes <= _MORE_ROOM * tenant.too_little.ram_bytes:
            had = shown(tenant.too_little.ram_bytes)
            return (
                f"it is too big: it was killed when memory ran out, with {had} "
                "to use, and is loaded again once there is more; lower its `context` or `parallel`, choose "
                "smaller weights, or end other programs"
            )
        return None

    def _pinned_before(self, key: int) -> Space:
        """What pinned models keep from this one: those that are there, and of the others the earlier ones."""
        return _sum(
            other.need
            for at, other in self.tenants.items()
            if at != key and other.terms.pinned and (other.takes_room or at < key)
        )

    def decide(self, now_s: float, within: Space = UNLIMITED) -> Decision:
        """Say what is to be done, and do it in the books: what is started is loading from here on.

        `within`: what models may take together now, all that they have included; never more than the
        budget counts.
        """
        self._within = within.least(self.budget.space)
        choice = _Choice(self, self._within, now_s)
        decision = choice.made()
        for key in decision.start:
            self.tenants[key].phase = Phase.LOADING
        for key in decision.evict:
            self.tenants[key].phase = Phase.LEAVING
        for key, tenant in self.tenants.items():
            tenant.closed = key in choice.closed
            tenant.short = key in choice.short
            if tenant.phase is Phase.RESIDENT and not tenant.closed:
                self._grant(tenant)
        return decision

    @staticmethod
    def _grant(tenant: Tenant) -> None:
        tenant.granted.update(tenant.waiting)
        tenant.waiting.clear()


class _Choice:
    """One decision while it is made.

    Attributes:
        closed: those that take no new calls.
        short: those for which there is no room.
    """

    def __init__(self, residency: Residency, within: Space, now_s: float) -> None:
        self._residency = residency
        self._tenants = residency.tenants
        self._wait_s = residency.budget.swap_wait_s
        self._now_s = now_s
        taken = [tenant for tenant in self._tenants.values() if tenant.takes_room]
        leaving = (tenant.need for tenant in taken if tenant.phase is Phase.LEAVING)
        self._free = within - _sum(tenant.need for tenant in taken)
        self._soon = self._free + _sum(leaving)  # once those that leave have left
        self._start: list[int] = []
        self._evict: list[int] = []
        self._times: list[float] = []
        self.closed: set[int] = set()
        self.short: set[int] = set()

    def made(self) -> Decision:
        self._end_unused()
        self._shrink()
        if any(self._residency.why_not(key, only_passing=True) for key in self._tenants):
            self._times.append(self._now_s + _LOOK_AGAIN_S)
        for key in self._asking():
            if self._residency.why_not(key) is not None:
                self.short.add(key)
            else:
                self._find_room(key)
        return Decision(
            start=tuple(self._start), evict=tuple(self._evict), again_s=min(self._times, default=None)
        )

    def _asking(self) -> list[int]:
        """Who is to be loaded: first those for whom somebody waits, the longest wait first."""
        keys = (
            key
            for key, tenant in self._tenants.items()
            if tenant.phase is Phase.ABSENT and tenant.ready and (tenant.wish or tenant.asked_s is not None)
        )
        return sorted(keys, key=lambda key: (self._asked_s(key), key))

    def _asked_s(self, key: int) -> float:
        asked_s = self._tenants[key].asked_s
        return math.inf if asked_s is None else asked_s

    def _end_unused(self) -> None:
        """Models that nobody has used for their idle time."""
        for key, tenant in self._tenants.items():
            idle_s = tenant.terms.idle_s
            if idle_s is None or tenant.phase is not Phase.RESIDENT or tenant.busy or tenant.terms.pinned:
                continue
            if tenant.idle_since_s + idle_s <= self._now_s:
                self._end(key)
            else:
                self._times.append(tenant.idle_since_s + idle_s)

    def _shrink(self) -> None:
        """They have grown beyond the budget: the least worthy goes; never the only one."""
        while min(self._soon.ram_bytes, self._soon.vram_bytes) < 0:
            here = [tenant for tenant in self._tenants.values() if tenant.phase is Phase.RESIDENT]
            lacking = NO_SPACE - self._soon.least(NO_SPACE)
            idle = self._movable(lacking, busy=False)
            if not idle or len(here) - len(self._evict) <= 1:
                return
            self._end(min(idle, key=lambda key: self._rank(key, lacking)))

    def _find_room(self, key: int) -> None:
        tenant = self._tenants[key]
        if tenant.need.fits(self._free) and tenant.need.fits(self._soon):
            self._start.append(key)
            self._free -= tenant.need
            self._soon -= tenant.need
        elif tenant.need.fits(self._soon):
            self._keep_for(tenant)
        elif tenant.asked_s is None:
            self.short.add(key)
        else:
            self._make_room(key)

    def _make_room(self, key: int) -> None:
        """Move others out for it: idle ones, and after `swap_wait_s` whoever is in the way."""
        tenant = self._tenants[key]
        overdue_s = self._asked_s(key) + self._wait_s
        overdue = overdue_s <= self._now_s
        if not overdue:
            self._times.append(overdue_s)
        victims = self._victims(tenant.need.beyond(self._soon), overdue=overdue)
        for victim in victims:
            if self._tenants[victim].busy:
                self.closed.add(victim)
                self._soon += self._tenants[victim].need
            else:
                self._end(victim)
        if victims or overdue:
            self._keep_for(tenant)
        self.short.add(key)

    def _keep_for(self, tenant: Tenant) -> None:
        """Let nobody behind it take what it waits for."""
        self._soon -= tenant.need
        self._free = self._free.least(self._soon)

    def _end(self, key: int) -> None:
        self._evict.append(key)
        self._soon += self._tenants[key].need

    def _victims(self, lacking: Space, *, overdue: bool) -> list[int]:
        """Who has to go for so much; empty: that cannot be had now."""
        movable = sorted(
            self._movable(lacking, busy=overdue),
            key=lambda key: (*self._reluctance(key), self._rank(key, lacking)),
        )
        if not overdue:
            movable = [key for key in movable if not self._lingers(key)]
        chosen: list[int] = []
        for key in movable:
            if self._covers(chosen, lacking):
                break
            chosen.append(key)
        if not self._covers(chosen, lacking):
            return []
        for key in reversed(chosen[:]):
            rest = [other for other in chosen if other != key]
            if self._covers(rest, lacking):
                chosen = rest
        return chosen

    def _movable(self, lacking: Space, *, busy: bool) -> list[int]:
        """Who may go and has some of what is lacking."""
        return [
            key
            for key, tenant in self._tenants.items()
            if key not in self._evict
            and key not in self.closed
            and not tenant.terms.pinned
            and _given(tenant.need, lacking) > 0
            and self._may_go(tenant, busy=busy)
        ]

    @staticmethod
    def _may_go(tenant: Tenant, *, busy: bool) -> bool:
        """A load that somebody waits for is not broken off."""
        if tenant.phase is Phase.LOADING:
            return not tenant.busy
        return tenant.phase is Phase.RESIDENT and (busy or not tenant.busy)

    def _reluctance(self, key: int) -> tuple[bool, bool]:
        """Idle ones first, then those that were told already."""
        tenant = self._tenants[key]
        return tenant.busy, not tenant.closed

    def _rank(self, key: int, lacking: Space) -> float:
        return self._tenants[key].worth(lacking, self._now_s)

    def _lingers(self, key: int) -> bool:
        """Whether its next call may be about to come: it was idle for less than what loading it takes."""
        tenant = self._tenants[key]
        if tenant.phase is Phase.LOADING:
            return False
        until_s = tenant.idle_since_s + min(tenant.load_s, self._wait_s)
        if until_s <= self._now_s:
            return False
        self._times.append(until_s)
        return True

    def _covers(self, keys: Iterable[int], lacking: Space) -> bool:
        return lacking.fits(_sum(self._tenants[key].need for key in keys))


def _sum(spaces: Iterable[Space]) -> Space:
    return sum(spaces, start=NO_SPACE)


def _given(need: Space, lacking: Space) -> int:
    """Bytes of the kinds that are lacking."""
    return (need.ram_bytes if lacking.ram_bytes > 0 else 0) + (
        need.vram_bytes if lacking.vram_bytes > 0 else 0
    )


def _declared(terms: Terms, need: Space) -> Space | None:
    """What router.yaml says, for the kind of memory that most of the model is in; None: it says nothing."""
    if terms.memory_bytes is None:
        return None
    if need.vram_bytes > need.ram_bytes:
        return Space(need.ram_bytes, terms.memory_bytes)
    return Space(terms.memory_bytes, need.vram_bytes)


def _key(lacking: Space) -> str:
    return "`residency.ram`" if lacking.ram_bytes > 0 else "`residency.vram`"


def _said(need: Space, room: Space, lacking: Space) -> str:
    if lacking.ram_bytes > 0:
        return f"it needs about {shown(need.ram_bytes)} of memory, {shown(max(0, room.ram_bytes))} are free"
    return f"it needs about {shown(need.vram_bytes)} of GPU memory, {shown(max(0, room.vram_bytes))} are free"


def _too_big(need: Space, budget: Space) -> str:
    lacking = need.beyond(budget)
    of, need_bytes, budget_bytes = (
        ("memory", need.ram_bytes, budget.ram_bytes)
        if lacking.ram_bytes > 0
        else ("GPU memory", need.vram_bytes, budget.vram_bytes)
    )
    return (
        f"it needs about {shown(need_bytes)} of {of}, {_key(lacking)} is {shown(budget_bytes)}; lower its "
        "`context` or `parallel`, choose smaller weights, or write `memory` if it needs less"
    )
