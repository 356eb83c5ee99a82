"""Two clocks: noticing that one was set, and counting by the other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.routing.moments import DAY_S, Moment, Recent, Watch

START = datetime(2026, 11, 22, 12, tzinfo=UTC)


def moment(elapsed_s: float, set_s: float = 0.0) -> Moment:
    """So long after the start, on a wall clock that was set by so much."""
    return Moment(wall=START + timedelta(seconds=elapsed_s + set_s), elapsed_s=elapsed_s)


def test_the_day_is_utcs() -> None:
    """Whatever zone the wall's clock tells."""
    wall = datetime(2026, 11, 23, 1, tzinfo=timezone(timedelta(hours=2)))

    assert Moment(wall=wall, elapsed_s=0).day == datetime(2026, 11, 22, tzinfo=UTC).date()


def test_a_clock_that_is_set_is_doubted_for_two_days() -> None:
    """In either direction, and from the moment it is noticed."""
    for set_s in (-3600.0, 3600.0):
        watch = Watch(moment(0))
        watch.look(moment(1000, set_s))

        assert watch.doubtful(moment(1000, set_s))
        assert watch.doubtful(moment(1000 + 2 * DAY_S - 1, set_s))
        assert not watch.doubtful(moment(1000 + 2 * DAY_S, set_s))


def test_a_clock_that_is_corrected_by_little_is_not_doubted() -> None:
    """However often: small steps are followed."""
    watch = Watch(moment(0))
    for step in range(100):
        watch.look(moment(step * 3600, step * 50.0))

    assert not watch.doubtful(moment(100 * 3600))


@given(st.lists(st.tuples(st.floats(0, 20_000), st.floats(0, 100)), min_size=1, max_size=60))
def test_the_last_day_is_never_counted_short(came: list[tuple[float, float]]) -> None:
    """The sum holds all of the last 24 hours, and at most ten minutes more."""
    recent, at_s = Recent(), 0.0
    noted: list[tuple[float, float]] = []
    for wait_s, amount in came:
        at_s += wait_s
        recent.add(amount, at_s)
        noted.append((at_s, amount))
        least = sum(amount for when_s, amount in noted if at_s - when_s < DAY_S)
        highest = sum(amount for when_s, amount in noted if at_s - when_s < DAY_S + 600)

        assert least - 1e-6 <= recent.sum(at_s) <= highest + 1e-6
