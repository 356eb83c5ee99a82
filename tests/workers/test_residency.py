"""Who is in memory: decisions in every order of events, and the promises that hold in all of them."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hybrid_router.core.space import NO_SPACE, Space
from hybrid_router.workers.choice import Decision, Eviction
from hybrid_router.workers.residency import Residency
from hybrid_router.workers.tenant import Budget, Phase, Terms

ROOM = Space(100)
WAIT_S = 10.0


class Books:
    """Residency with a clock that jumps; what it decides is kept."""

    def __init__(self, room: Space = ROOM, wait_s: float = WAIT_S) -> None:
        self.now_s = 1000.0
        self.residency = Residency(Budget(space=room, swap_wait_s=wait_s))
        self.within = room

    def model(self, size: int, *, wish: bool = False, **terms: object) -> int:
        """A model that may be loaded."""
        key = self.residency.enter(f"m{size}", Terms(**terms), wish=wish)  # type: ignore[arg-type]
        self.residency.estimated(key, Space(size))
        self.residency.rest(key, ready=True)
        return key

    def decide(self, after_s: float = 0.0) -> Decision:
        self.now_s += after_s
        return self.residency.decide(self.now_s, self.within)

    def open(self, key: int, load_s: float = 2.0) -> None:
        self.residency.opened(key, self.now_s, load_s=load_s, measured=None)

    def loaded(self, key: int, load_s: float = 2.0) -> None:
        """Bring a model in for one call, which is over at once."""
        ticket = self.ask(key)
        assert self.decide().start == (key,)
        self.open(key, load_s)
        self.residency.withdraw(key, ticket, self.now_s)

    def ask(self, key: int) -> int:
        return self.residency.ask(key, self.now_s)

    def reaped(self, key: int) -> None:
        self.residency.gone(key)
        self.residency.rest(key, ready=True)


def test_what_fits_is_loaded_at_once_and_stays() -> None:
    """Two models that fit together never wait for each other."""
    books = Books()
    one, two = books.model(40), books.model(60)
    books.ask(one)
    books.ask(two)

    assert books.decide() == Decision(start=(one, two))
    books.open(one)
    books.open(two)
    assert books.decide(1e6) == Decision()


def test_memory_is_free_before_the_next_load() -> None:
    """The next model starts when the process of the one before is reaped, not when it was told to end."""
    books = Books()
    one, two = books.model(60), books.model(60)
    books.loaded(one)
    books.ask(two)

    assert books.decide(after_s=5).evict == (one,)
    assert books.decide().start == ()
    books.reaped(one)
    assert books.decide().start == (two,)


def test_a_model_stays_for_its_next_call_as_long_as_loading_it_took() -> None:
    """Calls that come one after the other do not find their model gone in between."""
    books = Books()
    one, two = books.model(60), books.model(60)
    books.loaded(one, load_s=3.0)
    books.ask(two)

    decision = books.decide()
    assert (decision.evict, decision.again_s) == ((), books.now_s + 3.0)
    assert books.decide(after_s=3.0).evict == (one,)


def test_the_resident_model_goes_first_until_another_has_waited_long_enough() -> None:
    """Then new calls wait, those that run are ended in peace, and the others have their turn."""
    books = Books()
    one, two = books.model(60), books.model(60)
    books.loaded(one)
    books.residency.runs(one, 1)
    waiting = books.ask(two)

    assert books.decide(after_s=WAIT_S - 0.1).evict == ()
    first = books.ask(one)
    assert first in books.residency.tenants[one].granted
    books.residency.withdraw(one, first, books.now_s)

    assert books.decide(after_s=0.2).evict == ()
    late = books.ask(one)
    assert late not in books.residency.tenants[one].granted
    books.residency.runs(one, 0)
    assert books.decide().evict == (one,)
    assert late not in books.residency.tenants[one].granted
    books.reaped(one)
    assert books.decide().start == (two,)
    books.decide(after_s=100.0)  # whoever waits for `one` is overdue by now
    books.open(two)
    assert waiting in books.residency.tenants[two].granted


def test_who_gives_up_waiting_gives_up_the_load() -> None:
    """A model that nobody waits for any more is neither loaded, nor does its load keep others waiting."""
    books = Books()
    one, two = books.model(60), books.model(60)
    books.loaded(one)
    books.residency.runs(one, 1)
    ticket = books.ask(two)
    books.residency.withdraw(two, ticket, books.now_s)
    assert books.decide(after_s=100) == Decision()

    books.residency.runs(one, 0)
    ticket = books.ask(two)
    books.decide(after_s=100)
    books.reaped(one)
    assert books.decide().start == (two,)
    books.residency.withdraw(two, ticket, books.now_s)
    books.ask(one)
    assert books.decide().evict == (two,)


def test_the_least_worthy_goes() -> None:
    """Seconds of loading × likelihood of another call ÷ bytes: the quick, the unused and the big go first."""
    books = Books()
    slow, quick, other = books.model(30), books.model(30), books.model(60)
    books.loaded(slow, load_s=60.0)
    books.loaded(quick, load_s=1.0)
    books.ask(other)
    assert books.decide(after_s=8).evict == (quick,)

    books = Books()
    used, unused, other = books.model(30), books.model(30), books.model(60)
    books.loaded(unused)
    books.decide(after_s=3600)
    books.loaded(used)
    books.ask(other)
    assert books.decide(after_s=8).evict == (unused,)


def test_no_more_go_than_must() -> None:
    """One big model that makes room alone spares the small ones before it in the order."""
    books = Books()
    small, big, other = books.model(10), books.model(80), books.model(75)
    books.loaded(small, load_s=0.001)
    books.loaded(big, load_s=8.0)
    books.ask(other)

    assert books.decide(after_s=9).evict == (big,)


def test_pinned_models_stay() -> None:
    """Neither for room nor for being idle; what does not fit beside them is refused by name."""
    books = Books()
    pinned, other = books.model(60, pinned=True, idle_s=1.0), books.model(60)
    books.loaded(pinned)
    books.ask(other)

    assert books.decide(after_s=1000).evict == ()
    assert "beside pinned models" in (books.residency.why_not(other) or "")


def test_what_is_too_big_alone_is_refused_with_both_numbers() -> None:
    """And is never started."""
    books = Books(Space(8 * 2**30))
    big = books.model(12 * 2**30)
    books.ask(big)

    assert books.decide(after_s=1000) == Decision()
    why = books.residency.why_not(big) or ""
    assert "12.0 GiB" in why
    assert "8.0 GiB" in why
    assert "`residency.ram`" in why


@pytest.mark.parametrize(
    ("sizes", "advised"),
    [
        (("context", "parallel"), "raise that if there is more, lower its `context` or `parallel`, choose"),
        (("context",), "raise that if there is more, lower its `context`, choose"),
        ((), "raise that if there is more, choose smaller weights"),
    ],
)
def test_advice_names_only_keys_that_the_model_has(sizes: tuple[str, ...], advised: str) -> None:
    """An engine without a context is not to be given a smaller one; the budget can always be raised."""
    books = Books(Space(8 * 2**30))
    big = books.model(12 * 2**30, sizes=sizes)

    assert advised in (books.residency.why_not(big) or "")


def test_declared_memory_counts_instead_of_the_estimate() -> None:
    """`memory` says what nobody can estimate; what is measured beyond it counts all the same."""
    books = Books()
    one = books.model(120, memory_bytes=70)
    assert books.residency.why_not(one) is None
    books.ask(one)
    books.decide()
    books.residency.opened(one, books.now_s, load_s=1.0, measured=Space(80))
    assert books.residency.tenants[one].need == Space(80)


def test_an_idle_model_goes_after_its_time() -> None:
    """Nobody has to ask for its room."""
    books = Books()
    one = books.model(10, idle_s=60.0)
    books.loaded(one)

    assert books.decide().again_s == books.now_s + 60.0
    assert books.decide(after_s=59.9).evict == ()
    assert books.decide(after_s=0.2).evict == (one,)


def test_a_preload_moves_nobody() -> None:
    """It is loaded when there is room, and waits for that without being waited for."""
    books = Books()
    one, two = books.model(60), books.model(60, wish=True)
    books.ask(one)
    assert books.decide().start == (one,)
    books.open(one)
    assert books.decide(after_s=1e6) == Decision()
    assert books.residency.tenants[two].short


def test_a_model_that_is_wanted_by_calls_answered_elsewhere_gets_its_turn() -> None:
    """Or a model that lets clouds go first would never be loaded."""
    books = Books()
    one, two = books.model(60), books.model(60)
    books.loaded(one)
    books.residency.want(two, books.now_s)
    assert books.decide(after_s=WAIT_S).evict == (one,)


def test_killed_for_memory_it_comes_back_only_to_more_room() -> None:
    """Not in a loop: what it had was too little."""
    books = Books()
    books.within = Space(80)
    one = books.model(50)
    books.loaded(one)
    books.residency.burst(one)
    books.reaped(one)
    books.ask(one)

    decision = books.decide(after_s=1000)
    assert decision.start == ()
    assert decision.again_s is not None
    assert "killed when memory ran out" in (books.residency.why_not(one) or "")
    books.within = Space(95)
    assert books.decide().start == (one,)


def test_what_other_programs_have_cannot_be_had() -> None:
    """The budget is what may be taken, not what there is; it is looked at again."""
    books = Books()
    one = books.model(60)
    books.ask(one)
    books.within = Space(50)

    decision = books.decide()
    assert (decision.start, decision.again_s is not None) == ((), True)
    assert "other programs have the rest" in (books.residency.why_not(one) or "")


def test_models_that_grow_beyond_the_budget_make_room() -> None:
    """The least worthy idle one goes; the last one stays."""
    books = Books()
    one, two = books.model(40), books.model(40)
    books.loaded(one, load_s=50.0)
    books.loaded(two, load_s=1.0)
    books.residency.weighed(one, Space(70))
    assert books.decide().evict == (two,)
    books.reaped(two)
    books.residency.weighed(one, Space(170))
    assert books.decide().evict == ()


def test_who_goes_is_told_why() -> None:
    """Nobody used it, another one needs its room, or it grew: each with what it gives back."""
    books = Books()
    idle, other, big = books.model(30, idle_s=5.0), books.model(40), books.model(100)
    books.loaded(idle)
    books.loaded(other)
    (gone,) = books.decide(after_s=6).why.items()
    books.reaped(idle)
    books.ask(big)
    (moved,) = books.decide(after_s=6).why.items()

    assert gone == (idle, Eviction(reason="idle", freed=Space(30)))
    assert moved == (other, Eviction(reason="room", beneficiary="m100", freed=Space(40)))

    books = Books()
    one, two = books.model(40), books.model(50)
    books.loaded(one, load_s=50.0)
    books.loaded(two, load_s=1.0)
    books.residency.weighed(one, Space(70))
    assert books.decide().why == {two: Eviction(reason="budget", freed=Space(50))}


@pytest.mark.parametrize("kind", ["ram", "vram"])
def test_only_what_is_lacking_is_made_room_for(kind: str) -> None:
    """A model in the memory of GPUs does not push one out of the machine's, nor the other way round."""
    books = Books(Space(100, 100))
    ram, vram, new = books.model(0), books.model(0), books.model(0)
    books.residency.estimated(ram, Space(90, 0))
    books.residency.estimated(vram, Space(0, 90))
    books.residency.estimated(new, Space(50, 0) if kind == "ram" else Space(0, 50))
    books.loaded(ram)
    books.loaded(vram)
    books.ask(new)
    assert books.decide(after_s=9).evict == ((ram,) if kind == "ram" else (vram,))


class World(RuleBasedStateMachine):
    """Models, calls and a clock; whatever happens in whatever order.

    It plays the part of the workers: what is started opens or dies, what is evicted is reaped at some time.
    """

    @initialize(
        sizes=st.lists(st.integers(10, 100), min_size=2, max_size=5),
        pinned=st.integers(0, 2),
        idle_s=st.sampled_from([None, 1.0, 60.0]),
    )
    def begin(self, sizes: list[int], pinned: int, idle_s: float | None) -> None:
        self.books = Books()
        self.keys = [
            self.books.model(size, wish=at % 2 == 0, pinned=at == 0 and pinned == 1, idle_s=idle_s)
            for at, size in enumerate(sizes)
        ]
        self.running = dict.fromkeys(self.keys, 0)
        self.tickets: dict[int, int] = {}
        self.act()

    def phase(self, key: int) -> Phase:
        return self.books.residency.tenants[key].phase

    def act(self) -> Decision:
        """What follows every event; the promises that a single decision makes."""
        residency = self.books.residency
        for key, count in self.running.items():
            residency.runs(key, count)
        busy = {key for key in self.keys if self.running[key] or residency.tenants[key].granted}
        waited = {key for key in self.keys if residency.tenants[key].waiting}
        loading = {key for key in self.keys if self.phase(key) is Phase.LOADING}
        leaving = {key for key in self.keys if self.phase(key) is Phase.LEAVING}
        decision = self.books.decide()
        for key in decision.evict:
            assert key not in busy
            assert not (key in loading and key in waited)
            assert not residency.tenants[key].terms.pinned
        assert not leaving & set(decision.start)
        if decision.start:
            taken = [tenant for tenant in residency.tenants.values() if tenant.takes_room]
            assert sum(tenant.need.ram_bytes for tenant in taken) <= min(
                ROOM.ram_bytes, self.books.within.ram_bytes
            )
        assert decision.again_s is None or decision.again_s > self.books.now_s
        return decision

    def pick(self, at: int, *phases: Phase) -> int | None:
        found = [key for key in self.keys if self.phase(key) in phases]
        return found[at % len(found)] if found else None

    @rule(at=st.integers(0, 9))
    def call_comes(self, at: int) -> None:
        key = self.keys[at % len(self.keys)]
        self.tickets[self.books.ask(key)] = key
        self.act()

    @precondition(lambda self: self.tickets)
    @rule(at=st.integers(0, 99))
    def call_gives_up_or_begins(self, at: int) -> None:
        ticket = sorted(self.tickets)[at % len(self.tickets)]
        key = self.tickets.pop(ticket)
        granted = ticket in self.books.residency.tenants[key].granted
        self.books.residency.withdraw(key, ticket, self.books.now_s)
        self.running[key] += granted
        self.act()

    @rule(at=st.integers(0, 9))
    def call_ends(self, at: int) -> None:
        busy = [key for key in self.keys if self.running[key]]
        if busy:
            key = busy[at % len(busy)]
            self.running[key] -= 1
            if not self.running[key]:
                self.books.residency.rested(key, self.books.now_s)
            self.act()

    @rule(at=st.integers(0, 9), load_s=st.floats(0.01, 100), factor=st.floats(0.5, 1.5))
    def load_ends(self, at: int, load_s: float, factor: float) -> None:
        if (key := self.pick(at, Phase.LOADING)) is not None:
            need = self.books.residency.tenants[key].need
            measured = Space(min(100, int(need.ram_bytes * factor)))
            self.books.residency.opened(key, self.books.now_s, load_s=load_s, measured=measured)
            self.act()

    @rule(at=st.integers(0, 9))
    def eviction_ends(self, at: int) -> None:
        if (key := self.pick(at, Phase.LEAVING)) is not None:
            self.books.reaped(key)
            self.act()

    @rule(at=st.integers(0, 9), burst=st.booleans())
    def child_dies(self, at: int, burst: bool) -> None:
        if (key := self.pick(at, Phase.LOADING, Phase.RESIDENT)) is not None:
            if burst:
                self.books.residency.burst(key)
            self.books.residency.gone(key, again=not burst)
            self.running[key] = 0
            self.books.residency.rest(key, ready=True)
            self.act()

    @rule(after_s=st.sampled_from([0.1, 1.0, 5.0, 10.0, 1000.0]))
    def time_passes(self, after_s: float) -> None:
        self.books.now_s += after_s
        self.act()

    @rule(at=st.integers(0, 9))
    def answered_elsewhere(self, at: int) -> None:
        self.books.residency.want(self.keys[at % len(self.keys)], self.books.now_s)
        self.act()

    @rule(bytes_=st.integers(60, 140))
    def others_take_or_give_memory(self, bytes_: int) -> None:
        self.books.within = Space(bytes_)
        self.act()

    @invariant()
    def who_may_begin_has_a_model(self) -> None:
        for tenant in self.books.residency.tenants.values():
            assert not tenant.granted or tenant.phase is Phase.RESIDENT

    def teardown(self) -> None:
        """However it stood: once everything goes its way, every call that can be served begins in time."""
        if not hasattr(self, "books"):
            return
        residency = self.books.residency
        self.books.within = ROOM
        for _ in range(20 * len(self.keys)):
            self.settle()
            pending = [
                key for key in self.keys if residency.tenants[key].waiting and not residency.why_not(key)
            ]
            if not pending:
                return
            self.books.now_s += WAIT_S
        raise AssertionError([residency.tenants[key] for key in pending])

    def settle(self) -> None:
        """Every call begins and ends that may, every load and eviction is over."""
        for ticket, key in list(self.tickets.items()):
            if ticket in self.books.residency.tenants[key].granted:
                self.books.residency.withdraw(key, ticket, self.books.now_s)
                del self.tickets[ticket]
        for key in self.keys:
            self.running[key] = 0
            if self.phase(key) is Phase.LEAVING:
                self.books.reaped(key)
            elif self.phase(key) is Phase.LOADING:
                self.books.residency.opened(key, self.books.now_s, load_s=1.0, measured=None)
        self.act()


World.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestWorld = World.TestCase


def test_a_space_that_takes_none_of_a_kind_fits_its_shortage() -> None:
    """A model without GPU memory is not kept out because that is full."""
    assert Space(5, 0).fits(Space(5, -3))
    assert not Space(5, 1).fits(Space(5, -3))
    assert Space(9, 0).beyond(Space(5, -3)) == Space(4)
    assert Space(5).beyond(Space(5)) == NO_SPACE
