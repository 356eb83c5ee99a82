"""Who is loaded, and who has to go for that.  Pure: one decision at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Literal

from msgspec import Struct

from hybrid_router.core.space import NO_SPACE, Space
from hybrid_router.workers.tenant import Phase, Tenant, given, summed

_LOOK_AGAIN_S = 5.0  # whether other programs gave memory back


class Eviction(Struct, frozen=True, kw_only=True):
    """Why a model has to go.

    Attributes:
        reason: `idle`: nobody used it for its idle time; `room`: another one waits for its room; `budget`:
            what is there has grown beyond what it may take, or others took that.
        beneficiary: who gets the room.
        freed: what it gives back, as far as was measured.
    """

    reason: Literal["idle", "room", "budget"]
    beneficiary: str | None = None
    freed: Space = NO_SPACE


class Decision(Struct, frozen=True, kw_only=True):
    """What is to be done now.  Keys are those of `Residency.enter`.

    Attributes:
        start: load these.
        evict: end these; none has work.
        why: of each of those.
        again_s: decide again then, even if nothing happens.
    """

    start: tuple[int, ...] = ()
    evict: tuple[int, ...] = ()
    why: Mapping[int, Eviction] = MappingProxyType({})
    again_s: float | None = None


WhyNot = Callable[[int, bool], str | None]  # of a key; only what may change by itself


class Choice:
    """One decision while it is made.

    Attributes:
        closed: those that take no new calls.
        short: those for which there is no room.
    """

    def __init__(
        self, tenants: Mapping[int, Tenant], within: Space, *, why_not: WhyNot, wait_s: float, now_s: float
    ) -> None:
        self._tenants = tenants
        self._why_not = why_not
        self._wait_s = wait_s
        self._now_s = now_s
        taken = [tenant for tenant in self._tenants.values() if tenant.takes_room]
        leaving = (tenant.need for tenant in taken if tenant.phase is Phase.LEAVING)
        self._free = within - summed(tenant.need for tenant in taken)
        self._soon = self._free + summed(leaving)  # once those that leave have left
        self._start: list[int] = []
        self._evict: dict[int, Eviction] = {}
        self._times: list[float] = []
        self.closed: set[int] = set()
        self.short: set[int] = set()

    def made(self) -> Decision:
        self._end_unused()
        self._shrink()
        if any(self._why_not(key, True) for key in self._tenants):
            self._times.append(self._now_s + _LOOK_AGAIN_S)
        for key in self._asking():
            if self._why_not(key, False) is not None:
                self.short.add(key)
            else:
                self._find_room(key)
        return Decision(
            start=tuple(self._start),
            evict=tuple(self._evict),
            why=MappingProxyType(self._evict),
            again_s=min(self._times, default=None),
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
                self._end(key, "idle")
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
            self._end(min(idle, key=lambda key: self._rank(key, lacking)), "budget")

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
                self._end(victim, "room", tenant.name)
        if victims or overdue:
            self._keep_for(tenant)
        self.short.add(key)

    def _keep_for(self, tenant: Tenant) -> None:
        """Let nobody behind it take what it waits for."""
        self._soon -= tenant.need
        self._free = self._free.least(self._soon)

    def _end(
        self, key: int, reason: Literal["idle", "room", "budget"], beneficiary: str | None = None
    ) -> None:
        freed = self._tenants[key].need
        self._evict[key] = Eviction(reason=reason, beneficiary=beneficiary, freed=freed)
        self._soon += freed

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
            and given(tenant.need, lacking) > 0
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
        return lacking.fits(summed(self._tenants[key].need for key in keys))
