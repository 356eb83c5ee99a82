"""One account's day: what may be used, by whom, and when there is more."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from msgspec.structs import replace

from hybrid_router.config.cloud_schema import Neurons
from hybrid_router.routing.day import Day
from hybrid_router.routing.ledger import Allowance
from hybrid_router.routing.moments import Moment

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
THOUSAND = Neurons(daily=1000)


def at(hours: float = 0.0, *, set_hours: float = 0.0, boot: str = "one") -> Moment:
    """So many hours after noon, on a wall clock that was set by so much."""
    wall = NOON + timedelta(hours=hours + set_hours)
    return Moment(wall=wall, elapsed_s=1e6 + hours * 3600, boot=boot)


def used(neurons: float, day: Day | None = None, hours: float = 0.0) -> Day:
    """A day of which so much is spent."""
    day = day or Day(at(hours))
    day._reserved[0] = neurons
    day.settle(0, neurons, at(hours))
    return day


def take(day: Day, neurons: float, now: Moment, config: Neurons = THOUSAND, **who: bool) -> Allowance | None:
    """Reserve for one call."""
    return day.reserve(config, 1, neurons, now, **{"may_use_reserve": False, **who})


def test_what_is_reserved_counts_as_used_until_it_is_settled() -> None:
    """Then what it has used counts, and a second settlement nothing."""
    day = Day(at())

    assert take(day, 700, at()) is None
    assert day.allowance(THOUSAND, at()).neurons == 300
    day.settle(1, 100, at())
    day.settle(1, 100, at())
    assert day.allowance(THOUSAND, at()).neurons == 900
    assert (day.spent(at()), day.reserved) == (100, 0)


def test_more_than_is_left_is_not_given() -> None:
    """The refusal says how much there is, why, and when there is more; nothing is counted."""
    day = used(900)
    instead = take(day, 101, at())

    assert instead == Allowance(
        neurons=100,
        reserve_neurons=100,
        because="renewed at 00:00 UTC",
        until=datetime(2026, 11, 23, tzinfo=UTC),
    )
    assert day.used(at()) == 900
    assert take(day, 100, at()) is None


def test_the_day_is_renewed_at_midnight_utc() -> None:
    """Not a second before."""
    day = used(1000)

    assert take(day, 1, at(11.999)) is not None
    assert take(day, 1, at(12)) is None
    assert day.date == date(2026, 11, 23)


def test_a_call_that_runs_past_midnight_counts_in_both_days() -> None:
    """As reserved until it is settled, and then as what it used, in the day in which it ended."""
    day = Day(at())
    assert take(day, 600, at(11.9)) is None

    assert day.allowance(THOUSAND, at(12.1)).neurons == 400
    day.settle(1, 250, at(12.2))
    assert day.spent(at(12.2)) == 250


def test_the_pace_holds_back() -> None:
    """Before its time no more than its share may be used, and it is said until when."""
    config = Neurons(daily=1000, pace={"18:00": 0.5})
    day = used(400)
    instead = take(day, 101, at(), config)

    assert instead is not None
    assert (instead.neurons, instead.because) == (100, "the pace allows no more before 18:00 UTC")
    assert instead.until == NOON.replace(hour=18)
    assert take(day, 101, at(6), config) is None


def test_the_reserve_is_for_those_who_may_use_it() -> None:
    """At every stage of the pace, and of the whole day."""
    config = Neurons(daily=1000, reserve=200, pace={"18:00": 0.5})
    day = used(300)

    assert take(day, 1, at(), config) == Allowance(
        neurons=0,
        reserve_neurons=200,
        because="the pace allows no more before 18:00 UTC; 200 neurons are kept in reserve",
        until=NOON.replace(hour=18),
    )
    assert take(day, 200, at(), config, may_use_reserve=True) is None
    assert take(day, 301, at(6), config) is not None
    assert day.allowance(config, at(6)).neurons == 300


def test_dollars_go_on_where_neurons_end() -> None:
    """Up to their cap, the reserve included, and only once the pace holds nothing back."""
    config = Neurons(daily=1000, overflow_usd=0.0055, reserve=100, pace={"18:00": 1.0})
    evening = at(7)
    day = used(1000)

    assert day.allowance(config, at()).reserve_neurons == 0
    allowance = day.allowance(config, evening)
    assert allowance.neurons == pytest.approx(400)
    assert allowance.reserve_neurons == pytest.approx(500)
    assert allowance.overflow_usd == pytest.approx(0.0044)
    assert Day(at()).allowance(config, evening).overflow_usd == pytest.approx(0.0044)
    assert used(1500).allowance(config, evening) == Allowance(
        neurons=0,
        reserve_neurons=0,
        because="renewed at 00:00 UTC; 100 neurons are kept in reserve",
        until=datetime(2026, 11, 23, tzinfo=UTC),
    )


def test_cloudflares_word_ends_the_day() -> None:
    """Whatever was counted, and for calls that cost nothing too; until 00:00 UTC."""
    day = Day(at())
    day.refused(at())
    instead = take(day, 0, at(11.99))

    assert instead is not None
    assert instead.because == "Cloudflare says that the day's neurons are spent; renewed at 00:00 UTC"
    assert (instead.neurons, instead.until) == (0, datetime(2026, 11, 23, tzinfo=UTC))
    assert take(day, 1000, at(12)) is None


def test_a_refusal_just_after_midnight_may_mean_the_day_before() -> None:
    """Clocks differ: it is asked again some minutes later, not a day."""
    day = Day(at(12.01))
    day.refused(at(12.01))

    assert take(day, 1, at(12.05)) is not None
    assert take(day, 1, at(12 + 5 / 60)) is None


def test_a_clock_set_back_gives_nothing_again() -> None:
    """Neither the neurons nor the day that Cloudflare has refused; nor does setting it right again."""
    day = used(1000)
    day.refused(at())

    for hours, set_hours in [(1, -72), (2, 0), (3, 72), (4, 0), (5, -13)]:
        assert take(day, 1, at(hours, set_hours=set_hours)) is not None
    assert take(day, 1, at(11.9)) is not None


def test_a_clock_set_ahead_gives_nothing_either() -> None:
    """Twenty-four hours in a row use no more than a day's neurons, and it says why."""
    day = used(1000)
    instead = take(day, 1, at(1, set_hours=20))

    assert instead is not None
    assert instead.because.endswith("this machine's clock was set, so the last 24 hours count as one day")
    assert take(day, 1, at(23.9, set_hours=20)) is not None
    assert take(day, 1, at(24.2, set_hours=20)) is None


def test_a_clock_that_was_ahead_holds_nothing_back_for_days() -> None:
    """Set right, it names the day again, and the next midnight renews it."""
    day = used(100)
    day.allowance(THOUSAND, at(1, set_hours=72))
    day.allowance(THOUSAND, at(2))

    assert day.date == date(2026, 11, 22)
    used(900, day, hours=3)
    assert take(day, 1, at(30)) is None


def test_a_small_step_over_midnight_renews_the_day_once() -> None:
    """A clock that is corrected by seconds there and back stays in the new day."""
    day = used(1000)
    day.allowance(THOUSAND, at(12.001))
    used(1000, day, hours=12.001)

    assert take(day, 1, at(12.002, set_hours=-0.01)) is not None
    assert take(day, 1, at(12.02)) is not None


def test_a_restart_takes_up_what_was_used() -> None:
    """What was open when the state was written counts as spent: nobody knows what became of it."""
    day = used(300)
    take(day, 100, at())
    state = day.state(500, at())

    assert Day.restored(state, at(1)).allowance(THOUSAND, at(1)).neurons == 500
    assert Day.restored(state, at(13)).allowance(THOUSAND, at(13)).neurons == 800
    assert Day.restored(state, at(100)).allowance(THOUSAND, at(100)).neurons == 1000


def test_a_state_never_says_less_than_is_used() -> None:
    """Even if it is asked to."""
    day = used(300)
    take(day, 100, at())

    assert day.state(0, at()).most == 400


def test_a_restart_keeps_cloudflares_word() -> None:
    """Until the midnight that it was for, after a start of the machine too."""
    day = Day(at())
    day.refused(at())
    state = day.state(0, at(1))

    for boot in ("one", "two"):
        assert take(Day.restored(state, at(2, boot=boot)), 1, at(11.9, boot=boot)) is not None
        assert take(Day.restored(state, at(2, boot=boot)), 1, at(12, boot=boot)) is None


@pytest.mark.parametrize("set_hours", [-72, -13, 13, 72])
def test_a_clock_set_during_a_restart_gives_nothing_again(set_hours: float) -> None:
    """What was used in the last 24 hours counts, by the clock that nobody can set."""
    state = used(1000).state(0, at(1))
    now = at(2, set_hours=set_hours)

    assert take(Day.restored(state, now), 1, now) is not None


def test_a_clock_behind_after_a_start_of_the_machine_gives_nothing_again() -> None:
    """Time that goes back is doubted, though no other clock can tell."""
    state = used(1000).state(0, at(1))
    now = Moment(wall=NOON - timedelta(days=3), elapsed_s=5, boot="two")
    later = replace(now, wall=now.wall + timedelta(hours=20), elapsed_s=5 + 20 * 3600)

    restored = Day.restored(state, now)
    assert take(restored, 1, now) is not None
    assert take(restored, 1, later) is not None


def test_doubt_outlives_a_restart() -> None:
    """A clock that was set before it is no better after it."""
    day = used(1000)
    day.allowance(THOUSAND, at(1, set_hours=20))
    state = day.state(0, at(1, set_hours=20))
    now = at(2, set_hours=20)

    assert take(Day.restored(state, now), 1, now) is not None
