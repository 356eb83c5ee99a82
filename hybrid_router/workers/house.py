"""Where all models live: gives `residency` its facts, and tells workers what was decided.

One for the whole process, so that a budget holds across configurations.  A decision is made in one go on
the event loop, a turn after what it is about; nothing here waits.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Protocol, TypedDict

from hybrid_router.core.space import NO_SPACE, UNLIMITED, Space
from hybrid_router.workers.choice import Eviction
from hybrid_router.workers.memory import Boundless, Scales
from hybrid_router.workers.residency import Residency
from hybrid_router.workers.tenant import Budget, Phase, Tenant, Terms


class Lodger(Protocol):
    """What lives in a place: a worker."""

    @property
    def pid(self) -> int | None:
        """Its process, if it has one."""
        ...

    def running_count(self) -> int:
        """Calls that have begun and not ended."""
        ...

    def evict(self) -> None:
        """End the process; it has no work."""
        ...

    def stir(self) -> None:
        """Look again: what is decided of it has changed."""
        ...


class Given(TypedDict):
    """See `engines.needs.needed`."""

    room: Space
    gpus: bool


class House:
    """Decides who is in memory.  Without a budget everybody may be, as soon as they want.

    Attributes:
        loads: how often each model was loaded.
        evictions: how often each had to go, by (name, reason).
    """

    def __init__(self, budget: Budget | None = None, scales: Scales | None = None) -> None:
        self.limited = budget is not None
        self.scales = scales or Boundless()
        self.residency = Residency(budget or Budget())
        self.loads: Counter[str] = Counter()
        self.evictions: Counter[tuple[str, str]] = Counter()
        self._places: dict[int, Place] = {}
        self._due: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def budget(self) -> Budget:
        """What they may take."""
        return self.residency.budget

    def given(self) -> Given:
        """What an estimate starts from."""
        return {"room": self.budget.space, "gpus": self.scales.total().vram_bytes < UNLIMITED.vram_bytes}

    def follow(self, budget: Budget) -> None:
        """Another configuration's budget holds from now on."""
        if budget != self.residency.budget:
            self.residency.budget = budget
            self.stir()

    def enter(self, name: str, lodger: Lodger, terms: Terms, *, wish: bool) -> Place:
        """A worker's place; `wish`: its model is to be loaded as soon as there is room."""
        key = self.residency.enter(name, terms, wish=wish)
        place = self._places[key] = Place(self, key, lodger)
        return place

    def leave(self, key: int) -> None:
        """A worker has closed for good."""
        self._places.pop(key, None)
        self.residency.leave(key)
        if self._places:
            self.stir()
        else:
            self._quiet()

    def stir(self) -> None:
        """Decide, once what happens now has happened."""
        if self._due is None:
            self._due = asyncio.get_running_loop().call_soon(self._decide)

    def _quiet(self) -> None:
        for handle in (self._due, self._timer):
            if handle is not None:
                handle.cancel()
        self._due = self._timer = None

    def _decide(self) -> None:
        self._quiet()
        loop = asyncio.get_running_loop()
        for key, place in self._places.items():
            self.residency.runs(key, place.lodger.running_count())
        decision = self.residency.decide(loop.time(), self._within())
        for key in decision.evict:
            self._places[key].evict(decision.why[key])
            self.evictions[self.residency.tenants[key].name, decision.why[key].reason] += 1
        for key, place in self._places.items():
            place.told(starts=key in decision.start)
        if decision.again_s is not None:
            self._timer = loop.call_at(decision.again_s, self.stir)

    def _within(self) -> Space:
        """What models may take now: what is free, and what they have that nobody else could get."""
        if not self.limited:
            return self.budget.space
        held = (self._kept(place) for place in self._places.values())
        return sum(held, start=self.scales.available())

    def _kept(self, place: Place) -> Space:
        if not place.tenant.takes_room or place.lodger.pid is None:
            return NO_SPACE
        taken = self.scales.taken(place.lodger.pid)
        return NO_SPACE if taken is None else _guessed(taken.kept, place.tenant)


class Place:
    """A worker's side of the house: it tells what happens, and waits for its turn."""

    def __init__(self, house: House, key: int, lodger: Lodger) -> None:
        self._house = house
        self._key = key
        self._turn: asyncio.Future[None] | None = None
        self._kills: Callable[[], int] = lambda: 0
        self._killed_count = 0
        self.lodger = lodger
        self.eviction: Eviction | None = None

    @property
    def tenant(self) -> Tenant:
        """What the books say; to read."""
        return self._house.residency.tenants[self._key]

    @property
    def limited(self) -> bool:
        """Whether anything is counted."""
        return self._house.limited

    @property
    def pending(self) -> bool:
        """Whether its model is about to be loaded, or has somebody who waits for that."""
        tenant = self.tenant
        if tenant.phase is Phase.LEAVING or tenant.asked_s is not None:
            return True
        return tenant.wish and not tenant.short

    def why_not(self) -> str | None:
        """Why its model cannot be loaded; None if it can, or is there."""
        return self._house.residency.why_not(self._key) if self._house.limited else None

    def expect(self, need: Space) -> None:
        """What the model is estimated to take."""
        self._house.residency.estimated(self._key, need)

    def follow(self, terms: Terms) -> None:
        """Other terms hold from now on."""
        if terms != self.tenant.terms:
            self.tenant.terms = terms
            self._house.stir()

    def want(self) -> None:
        """Load the model when its turn comes: calls for it are answered elsewhere until then."""
        self._house.residency.want(self._key, _now_s())
        self._house.stir()

    def ask(self) -> int:
        """A call has come; its ticket."""
        ticket = self._house.residency.ask(self._key, _now_s())
        if not self.granted(ticket):
            self._house.stir()
        return ticket

    def granted(self, ticket: int) -> bool:
        """Whether a call may begin."""
        return ticket in self.tenant.granted

    def withdraw(self, ticket: int) -> None:
        """A call has begun, or was given up."""
        self._house.residency.withdraw(self._key, ticket, _now_s())
        self._stir_if_it_matters()

    def rested(self) -> None:
        """The last call has ended."""
        self._house.residency.rested(self._key, _now_s())
        self._stir_if_it_matters()

    def _stir_if_it_matters(self) -> None:
        """Most calls come and go while nobody waits for another model."""
        tenant = self._house.residency.tenants.get(self._key)
        if tenant is None:
            return
        if tenant.terms.idle_s is not None or self._house.residency.somebody_waits:
            self._house.stir()

    async def turn(self) -> None:
        """Wait until the model may be loaded."""
        self._turn = asyncio.get_running_loop().create_future()
        self._house.residency.rest(self._key, ready=True)
        self._house.stir()
        await self._turn

    def evict(self, eviction: Eviction) -> None:
        """It has to go; `eviction` says why."""
        self.eviction = eviction
        self.lodger.evict()

    def told(self, *, starts: bool) -> None:
        """A decision was made."""
        if starts and self._turn is not None and not self._turn.done():
            self._turn.set_result(None)
        self.lodger.stir()

    def born(self, pid: int) -> None:
        """The process is there."""
        self._kills = self._house.scales.kills(pid)
        self._killed_count = self._kills()

    def opened(self, pid: int, load_s: float) -> None:
        """The model is open, and is weighed."""
        self._house.loads[self.tenant.name] += 1
        taken = self._house.scales.taken(pid)
        measured = None if taken is None else _guessed(taken.all, self.tenant)
        self._house.residency.opened(self._key, _now_s(), load_s=load_s, measured=measured)
        self._house.stir()

    def weigh(self, pid: int) -> None:
        """Weigh it again."""
        if (taken := self._house.scales.taken(pid)) is not None:
            before = self.tenant.need
            self._house.residency.weighed(self._key, taken.all)
            if self.tenant.need != before:
                self._house.stir()

    def burst(self) -> bool:
        """Whether the kernel killed it for memory; then it is too big for what it had.

        Asked when it was killed by a signal that nobody here sent.
        """
        if self._kills() <= self._killed_count:
            return False
        self._house.residency.burst(self._key)
        return True

    def gone(self, *, again: bool = False) -> None:
        """The process is reaped."""
        self._house.residency.gone(self._key, again=again)
        self._house.stir()

    def leave(self) -> None:
        """Gone for good."""
        self._house.leave(self._key)


def _guessed(taken: Space, tenant: Tenant) -> Space:
    """What was measured; of GPU memory what was counted on, where the driver does not tell one process's."""
    return taken if taken.vram_bytes else Space(taken.ram_bytes, tenant.need.vram_bytes)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
