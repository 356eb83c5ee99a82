"""Which models are in memory: who waits, who is loaded, who has to go.  Pure: events in, decisions out.

Calls for a model that is resident go first, for as long as nobody has waited `swap_wait_s` for another one;
then it takes no new calls, ends those it has, and makes room.  A model that has just been idle stays for as
long as it took to load, so that calls that come one after the other do not find it gone.
"""

from __future__ import annotations

from hybrid_router.core.space import NO_SPACE, UNLIMITED, Space, shown
from hybrid_router.workers.choice import Choice, Decision
from hybrid_router.workers.tenant import Budget, Phase, Tenant, Terms, declared, summed

_MORE_ROOM = 1.1  # than what was too little


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
        tenant.estimate = declared(tenant.terms, need) or need
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
            tenant.need = measured.most(declared(tenant.terms, tenant.estimate) or NO_SPACE)
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
        others = summed(other.need for other in self.tenants.values() if other.takes_room and other != tenant)
        tenant.too_little = (self._within - others).most(tenant.need)
        tenant.wish = False

    def why_not(self, key: int) -> str | None:
        """Why a model cannot be loaded however long one waits; None if it can."""
        return self._why_not(key, False)

    def _why_not(self, key: int, only_passing: bool) -> str | None:
        """As `why_not`; `only_passing`: if that may change by itself."""
        never = self._why_never(key)
        return self._why_short(key) if never is None else None if only_passing else never

    def _why_never(self, key: int) -> str | None:
        """What only another configuration changes."""
        tenant = self.tenants[key]
        if tenant.phase in {Phase.LOADING, Phase.RESIDENT}:
            return None
        if not tenant.need.fits(self.budget.space):
            return _too_big(tenant, self.budget.space)
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
                f"to use, and is loaded again once there is more; {tenant.terms.less}, or end other programs"
            )
        return None

    def _pinned_before(self, key: int) -> Space:
        """What pinned models keep from this one: those that are there, and of the others the earlier ones."""
        return summed(
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
        choice = Choice(
            self.tenants,
            self._within,
            why_not=self._why_not,
            wait_s=self.budget.swap_wait_s,
            now_s=now_s,
        )
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


def _key(lacking: Space) -> str:
    return "`residency.ram`" if lacking.ram_bytes > 0 else "`residency.vram`"


def _said(need: Space, room: Space, lacking: Space) -> str:
    if lacking.ram_bytes > 0:
        return f"it needs about {shown(need.ram_bytes)} of memory, {shown(max(0, room.ram_bytes))} are free"
    return f"it needs about {shown(need.vram_bytes)} of GPU memory, {shown(max(0, room.vram_bytes))} are free"


def _too_big(tenant: Tenant, budget: Space) -> str:
    need = tenant.need
    lacking = need.beyond(budget)
    of, need_bytes, budget_bytes = (
        ("memory", need.ram_bytes, budget.ram_bytes)
        if lacking.ram_bytes > 0
        else ("GPU memory", need.vram_bytes, budget.vram_bytes)
    )
    write = "write" if tenant.terms.memory_bytes is None else "lower its"
    return (
        f"it needs about {shown(need_bytes)} of {of}, {_key(lacking)} is {shown(budget_bytes)}; "
        f"raise that if there is more, {tenant.terms.less}, or {write} `memory` if it needs less"
    )
