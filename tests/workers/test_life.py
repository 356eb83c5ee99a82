"""When a worker starts again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.engines.task import Opened
from hybrid_router.workers import life
from hybrid_router.workers.life import Absent, Dead, Ending, Loading, Resident

OPENED = Opened(description="d", context=9, parallel=2, has_template=True, vocabulary_count=3)


def test_the_first_crash_costs_no_wait() -> None:
    """Its callers lose a load, not half a second more."""
    assert life.pause_s(1) == 0.0
    assert life.pause_s(2) > 0.0


@given(st.integers(1, 200))
def test_pauses_grow_and_are_bounded(failure_count: int) -> None:
    """A crash loop slows down to one try a minute."""
    assert life.pause_s(failure_count) <= life.pause_s(failure_count + 1) <= 60.0


def test_a_long_life_forgives_earlier_crashes() -> None:
    """The count is of failures in a row."""
    assert life.failures_after(5, lived_s=3600.0) == 1
    assert life.failures_after(5, lived_s=1.0) == 6


def test_only_a_dead_worker_is_down() -> None:
    """Loading is a known state with its own timeout; absent is one call away from loading."""
    assert life.why_down(Absent(), 0.0) is None
    assert life.why_down(Loading(0.0), 5.0) is None
    assert life.why_down(Resident(OPENED, 0.0), 5.0) is None


def test_a_dead_worker_says_when_it_starts_again() -> None:
    """So that a client can wait as long as it must."""
    assert life.why_down(Dead("killed", 10.0), 7.5) == "killed; starting again in 2.5 s"
    assert life.why_down(Dead("killed", 10.0), 10.0) is None
    assert life.why_down(Dead("bad file", None), 1e9) == "bad file"


def test_who_cannot_open_its_model_is_given_up() -> None:
    """At once where another would fare the same, else after a few tries; the reason says what to lower."""
    assert life.given_up(Ending("bad file", loading=True, hopeless=True), 1, "") == "bad file"
    killed = Ending("worker was killed by SIGKILL", loading=True)
    tries = [life.given_up(killed, count, "lower its `context`") for count in range(1, 9)]

    assert tries[:5] == [None] * 5
    assert all(tries[5:])
    assert "6 times" in str(tries[5])
    assert "`context`" in str(tries[5])
