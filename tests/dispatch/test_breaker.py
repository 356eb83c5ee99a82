"""A failing model is left alone for a while, and comes back by one probe."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hybrid_router.dispatch.breaker import (
    FIRST_OPEN_S,
    LONGEST_OPEN_S,
    MOST_FAILURES,
    WINDOW_S,
    Breaker,
    span,
)


def opened(now_s: float = 0.0) -> Breaker:
    """A breaker that five failures have just opened."""
    breaker = Breaker()
    for _ in range(MOST_FAILURES):
        assert breaker.enter(now_s)
        breaker.failed(now_s, now_s)
    return breaker


def tried(breaker: Breaker, now_s: float, *, fails: bool) -> None:
    """One attempt, over at once."""
    assert breaker.enter(now_s)
    (breaker.failed if fails else breaker.succeeded)(now_s, now_s)


def test_it_opens_after_five_failures_in_a_row() -> None:
    """Not after four, and a success in between starts the count anew."""
    breaker = Breaker()
    for fails in (True, True, True, True, False, True, True, True, True):
        tried(breaker, 0.0, fails=fails)
    assert (breaker.word(0.0), breaker.why_not(0.0)) == ("closed", None)

    tried(breaker, 0.0, fails=True)
    assert breaker.word(0.0) == "open"
    assert breaker.why_not(1.8) == "its breaker is open for 3.2 s more after 5 failures in a row"
    assert breaker.wait_s(1.8) == pytest.approx(3.2)
    assert not breaker.enter(1.8)


def test_it_opens_when_half_of_the_last_calls_failed() -> None:
    """Ten within half a minute are enough to say so."""
    breaker = Breaker()
    for count in range(9):
        tried(breaker, count, fails=count % 2 == 0)
    assert breaker.word(9.0) == "closed"
    tried(breaker, 9.0, fails=False)
    tried(breaker, 9.5, fails=True)

    assert breaker.why_not(9.5) == "its breaker is open for 5.0 s more after 6 of its last 11 calls failed"


def test_what_was_long_ago_does_not_count() -> None:
    """Failures from before the window open nothing, unless they are in a row."""
    breaker = Breaker()
    now_s = 0.0
    for count in range(50):
        tried(breaker, now_s, fails=count % 2 == 0)
        now_s += WINDOW_S / 8
    assert breaker.word(now_s) == "closed"


@pytest.mark.parametrize("fails", [True, False])
def test_half_open_lets_exactly_one_probe_through(fails: bool) -> None:
    """Its success closes the breaker, its failure opens it for twice as long."""
    breaker = opened()
    assert not breaker.enter(FIRST_OPEN_S - 0.001)
    assert (breaker.word(FIRST_OPEN_S), breaker.why_not(FIRST_OPEN_S)) == ("half_open", None)
    assert breaker.enter(FIRST_OPEN_S)
    assert not breaker.enter(FIRST_OPEN_S)
    assert "lets one call through at a time" in (breaker.why_not(FIRST_OPEN_S) or "")

    if fails:
        breaker.failed(6.0, FIRST_OPEN_S)
        assert not breaker.enter(6.0 + 2 * FIRST_OPEN_S - 0.001)
        assert breaker.enter(6.0 + 2 * FIRST_OPEN_S)
    else:
        breaker.succeeded(6.0, FIRST_OPEN_S)
        assert [breaker.enter(6.0) for _ in range(3)] == [True] * 3


def test_a_probe_that_is_given_up_makes_room_for_another() -> None:
    """A client that leaves says nothing of the backend."""
    breaker = opened()
    assert breaker.enter(FIRST_OPEN_S)
    breaker.let_go(FIRST_OPEN_S)

    assert breaker.word(FIRST_OPEN_S) == "half_open"
    assert breaker.enter(FIRST_OPEN_S)


def test_failing_probes_make_it_wait_longer_up_to_a_minute() -> None:
    """5, 10, 20, 40, 60, 60 s; after a success it is 5 s again."""
    breaker, now_s, waits = opened(), 0.0, []
    for _ in range(6):
        wait_s = next(wait_s for wait_s in range(1, 100) if breaker.why_not(now_s + wait_s) is None)
        waits.append(wait_s)
        now_s += wait_s
        tried(breaker, now_s, fails=True)
    assert waits == [5, 10, 20, 40, 60, 60]

    now_s += LONGEST_OPEN_S
    tried(breaker, now_s, fails=False)
    for _ in range(MOST_FAILURES):
        tried(breaker, now_s, fails=True)
    assert breaker.why_not(now_s + FIRST_OPEN_S) is None


@pytest.mark.parametrize("fails", [True, False])
def test_attempts_from_before_say_nothing(fails: bool) -> None:
    """What began while it was closed is not taken for the probe, nor counted after it."""
    breaker = Breaker()
    for _ in range(MOST_FAILURES + 2):
        assert breaker.enter(0.0)
    for _ in range(MOST_FAILURES):
        breaker.failed(1.0, 0.0)
    old = breaker.failed if fails else breaker.succeeded
    old(2.0, 0.0)
    assert breaker.word(2.0) == "open"

    assert breaker.enter(6.0)
    old(6.5, 0.0)
    assert not breaker.enter(7.0), "the probe still runs"
    breaker.succeeded(8.0, 6.0)
    assert breaker.word(8.0) == "closed"


def test_a_bench_ends_by_itself() -> None:
    """Nobody has to probe: the backend has said when."""
    breaker = Breaker()
    breaker.bench(60.0, "the rate limit is reached")
    breaker.bench(20.0, "a shorter one that was told later")

    assert breaker.why_not(57.5) == "the rate limit is reached (asked again in 2.5 s)"
    assert (breaker.word(57.5), breaker.enter(57.5)) == ("benched", False)
    assert breaker.word(60.0) == "closed"
    assert [breaker.enter(60.0) for _ in range(3)] == [True] * 3


def test_a_bench_closes_no_open_breaker() -> None:
    """After it there is still a probe to pass."""
    breaker = opened()
    breaker.bench(60.0, "it asks us to wait")

    assert breaker.word(60.0) == "half_open"
    assert [breaker.enter(60.0), breaker.enter(60.0)] == [True, False]


@pytest.mark.parametrize(
    ("wait_s", "said"),
    [
        (0.04, "0.0 s"),
        (3.21, "3.2 s"),
        (60, "1 min"),
        (719, "12 min"),
        (3600, "1 h 0 min"),
        (25500, "7 h 5 min"),
    ],
)
def test_a_wait_is_readable(wait_s: float, said: str) -> None:
    """For whoever reads a plan."""
    assert span(wait_s) == said


class AnyCourse(RuleBasedStateMachine):
    """Attempts begin and end in any order, under a clock that creeps and jumps."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker()
        self.now_s = 1000.0
        self.running: list[float] = []
        self.probe: float | None = None

    @rule(by_s=st.sampled_from([0.001, 0.5, 4.9, 5.0, 5.1, 31.0, 60.0, 86_400.0]))
    def wait(self, by_s: float) -> None:
        self.now_s += by_s

    @rule()
    def begin(self) -> None:
        was = self.breaker.word(self.now_s)
        why_not = self.breaker.why_not(self.now_s)
        entered = self.breaker.enter(self.now_s)
        assert entered == (why_not is None)
        assert entered == (was == "closed" or (was == "half_open" and self.probe is None))
        if entered:
            self.running.append(self.now_s)
            if was == "half_open":
                self.probe = self.now_s

    @precondition(lambda self: self.running)
    @rule(
        how=st.sampled_from(["failed", "failed", "failed", "succeeded", "let_go"]), which=st.integers(0, 99)
    )
    def end(self, how: str, which: int) -> None:
        began_s = self.running.pop(which % len(self.running))
        was_probe = began_s == self.probe
        before = self.breaker.word(self.now_s)
        if how == "let_go":
            self.breaker.let_go(began_s)
        elif how == "failed":
            self.breaker.failed(self.now_s, began_s)
        else:
            self.breaker.succeeded(self.now_s, began_s)
        after = self.breaker.word(self.now_s)
        if was_probe:
            self.probe = None
            assert after == {"failed": "open", "succeeded": "closed", "let_go": "half_open"}[how]
        elif before != "closed":
            assert after == before, "only the probe decides"

    @invariant()
    def it_always_comes_back(self) -> None:
        """A minute on, and with no probe running, somebody may try."""
        later_s = self.now_s + LONGEST_OPEN_S
        assert (self.breaker.why_not(later_s) is None) == (self.probe is None)

    @invariant()
    def one_probe_at_most(self) -> None:
        assert (self.probe is not None) <= (self.breaker.word(self.now_s) == "half_open")


TestAnyCourse = AnyCourse.TestCase
TestAnyCourse.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
