"""What an attempt's end says of a model and of its account."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from hybrid_router.core import errors
from hybrid_router.dispatch.health import CLOCKS_DIFFER_S, Health

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HALF_A_DAY_S = 12 * 3600.0
COUNTS = [
    errors.BackendError,
    errors.BackendUnavailable,
    errors.BackendTimeout,
    errors.BackendBusy,
    errors.BackendMisconfigured,
    errors.StreamBroken,
]
SAYS_NOTHING = [
    errors.BackendUnreachable,
    errors.ConnectTimeout,
    errors.Benched,
    errors.Inexpressible,
    errors.PrefillRefused,
    errors.QueueFull,
    errors.NoBackend,
]


def late(message: str) -> errors.RouterError:
    """A call's mistake that shows only in the middle of its answer."""
    return errors.BrokenByCall(errors.CallRefused(message))


ITS_ANSWER = [errors.CallRefused, errors.ContextOverflow, errors.ContentRefused, late, None]


class Clocks:
    """A monotonic clock and a wall clock, which may part."""

    def __init__(self, wall: datetime = NOON) -> None:
        self.now_s = 1000.0
        self.wall = wall

    def go(self, by_s: float) -> None:
        """Time goes by."""
        self.now_s += by_s
        self.wall += timedelta(seconds=by_s)


class Trial:
    """A health with clocks that can be moved."""

    def __init__(self, wall: datetime = NOON) -> None:
        self.clocks = Clocks(wall)
        self.health = Health(lambda: self.clocks.now_s, lambda: self.clocks.wall)

    def attempt(
        self,
        error: errors.RouterError | None,
        model: str = "m",
        *,
        backend: str = "b",
        cancelled: bool = False,
    ) -> None:
        """One that enters and ends so."""
        now_s = self.clocks.now_s
        assert self.health.enter(backend, model, now_s) is None
        self.health.leave(backend, model, now_s, error, cancelled=cancelled, began_s=now_s)

    def why(self, model: str = "m", backend: str = "b") -> str | None:
        """Why it is left alone now; `enter` says the same."""
        now_s = self.clocks.now_s
        told = self.health.why_down(backend, model, now_s)
        entered = self.health.enter(backend, model, now_s)
        if entered is None:
            self.health.leave(backend, model, now_s, None, cancelled=True, began_s=now_s)
        assert told == entered
        return told


@pytest.mark.parametrize("kind", COUNTS)
def test_failures_open_the_model_s_breaker(kind: type[errors.RouterError]) -> None:
    """Of this model alone: the account's other models, and other backends, go on."""
    trial = Trial()
    for _ in range(5):
        assert trial.why() is None
        trial.attempt(kind("no"))

    assert "breaker is open" in (trial.why() or "")
    assert (trial.why("other"), trial.why(backend="other")) == (None, None)
    trial.clocks.go(5.0)
    assert trial.why() is None


@pytest.mark.parametrize("kind", SAYS_NOTHING)
def test_what_is_nobody_s_failure_opens_nothing(kind: type[errors.RouterError]) -> None:
    """The network, a queue of our own, a field that the backend does not know."""
    trial = Trial()
    for _ in range(50):
        trial.attempt(kind("no", retry_after_s=1.0))

    assert trial.why() is None


@pytest.mark.parametrize("kind", ITS_ANSWER)
def test_an_answer_and_a_refused_call_show_that_it_works(
    kind: Callable[[str], errors.RouterError] | None,
) -> None:
    """They start the count of failures anew."""
    trial = Trial()
    for _ in range(4):
        for _ in range(4):
            trial.attempt(errors.BackendError("no"))
        for _ in range(9):
            trial.attempt(None if kind is None else kind("no"))

    assert trial.why() is None


def test_an_attempt_that_was_given_up_says_nothing() -> None:
    """Whatever it raised last."""
    trial = Trial()
    for _ in range(50):
        trial.attempt(errors.QuotaExhausted("spent", retry_after_s=60), cancelled=True)
        trial.attempt(errors.BackendTimeout("late"), cancelled=True)

    assert trial.why() is None


def test_a_rate_limit_benches_the_model_until_it_is_over() -> None:
    """No failure: it was told when to come back, and does, without a probe."""
    trial = Trial()
    for _ in range(20):
        trial.attempt(errors.BackendBusy("the rate limit is reached", retry_after_s=60.0))
        assert trial.why() == "the rate limit is reached (asked again in 1 min)"
        assert trial.why("other") is None
        trial.clocks.go(60.0)
        assert trial.why() is None


def test_absurd_advice_is_not_obeyed() -> None:
    """Longer than an hour: it counts as any failure."""
    trial = Trial()
    for _ in range(5):
        assert trial.why() is None
        trial.attempt(errors.BackendBusy("later", retry_after_s=3601.0))

    assert "breaker is open" in (trial.why() or "")


def test_a_refused_token_benches_the_whole_account_for_a_minute() -> None:
    """Every model would hear the same, and somebody may mend it."""
    trial = Trial()
    trial.attempt(errors.AccountRefused("the token is not accepted"))

    assert trial.why("other") == "the token is not accepted (asked again in 1 min)"
    assert trial.why(backend="other") is None
    trial.clocks.go(60.0)
    assert trial.why("other") is None


def test_a_spent_day_lets_no_more_call_through_until_it_is_renewed() -> None:
    """Exactly one call hears it; those in flight then change nothing."""
    trial = Trial()
    now_s = trial.clocks.now_s
    for model in ("m", "other"):
        assert trial.health.enter("b", model, now_s) is None
    spent = errors.QuotaExhausted("today's allowance is spent", retry_after_s=HALF_A_DAY_S)
    trial.health.leave("b", "m", now_s, spent)
    trial.health.leave("b", "other", now_s, None)

    assert trial.why("other") == "today's allowance is spent (asked again in 12 h 0 min)"
    trial.clocks.go(HALF_A_DAY_S - 0.5)
    assert trial.why() == "today's allowance is spent (asked again in 0.5 s)"
    trial.clocks.go(0.5)
    assert (trial.why(), trial.why("other")) == (None, None)


@pytest.mark.parametrize("told_s", [HALF_A_DAY_S, None])
def test_a_machine_that_slept_is_back_at_midnight(told_s: float | None) -> None:
    """The monotonic clock may have stood still all the while, and the error need not say when."""
    trial = Trial()
    trial.attempt(errors.QuotaExhausted("spent", retry_after_s=told_s))
    trial.clocks.wall += timedelta(hours=11, minutes=59)
    assert trial.why() is not None
    trial.clocks.wall += timedelta(minutes=1)

    assert trial.why() is None


@pytest.mark.parametrize("days", [-3, -400])
def test_a_wall_clock_that_is_set_back_does_not_lengthen_a_bench(days: int) -> None:
    """The monotonic clock ends it in time."""
    trial = Trial()
    trial.attempt(errors.QuotaExhausted("spent", retry_after_s=HALF_A_DAY_S))
    trial.clocks.wall += timedelta(days=days)
    assert trial.why() is not None
    trial.clocks.go(HALF_A_DAY_S)

    assert trial.why() is None


def test_a_wall_clock_that_is_set_forward_costs_one_call() -> None:
    """Which hears that the day is still spent."""
    trial = Trial()
    spent = errors.QuotaExhausted("spent", retry_after_s=HALF_A_DAY_S)
    trial.attempt(spent)
    trial.clocks.wall += timedelta(days=3)
    trial.attempt(spent)

    assert trial.why() is not None


def test_a_clock_that_is_ahead_does_not_lose_the_new_day() -> None:
    """Told right after midnight that the day is spent, it is the old one that was meant."""
    trial = Trial(datetime(2026, 3, 2, 0, 0, 3, tzinfo=UTC))
    trial.attempt(errors.QuotaExhausted("spent", retry_after_s=86_397.0))
    assert trial.why() is not None
    trial.clocks.go(CLOCKS_DIFFER_S - 3)
    trial.attempt(errors.QuotaExhausted("spent", retry_after_s=86_400.0 - CLOCKS_DIFFER_S))
    trial.clocks.go(HALF_A_DAY_S)

    assert trial.why() is not None


def test_a_shorter_bench_does_not_cut_a_longer_one() -> None:
    """A call that was in flight may end later and know less."""
    trial = Trial()
    now_s = trial.clocks.now_s
    for _ in range(2):
        assert trial.health.enter("b", "m", now_s) is None
    trial.health.leave("b", "m", now_s, errors.QuotaExhausted("spent", retry_after_s=HALF_A_DAY_S))
    trial.health.leave("b", "m", now_s, errors.AccountRefused("no"))

    trial.clocks.go(61.0)
    assert trial.why() is not None


def test_every_state_has_its_word() -> None:
    """For metrics: `backend/model` → closed, open, half_open, benched."""
    trial = Trial()
    trial.attempt(None, "well")
    for _ in range(5):
        trial.attempt(errors.BackendError("no"), "failing")
    trial.attempt(errors.BackendBusy("later", retry_after_s=60), "busy")
    trial.attempt(errors.AccountRefused("no"), "one", backend="locked")
    assert trial.health.snapshot() == {
        "b/well": "closed",
        "b/failing": "open",
        "b/busy": "benched",
        "locked/one": "benched",
    }

    trial.clocks.go(60.0)
    assert trial.health.snapshot() == {
        "b/well": "closed",
        "b/failing": "half_open",
        "b/busy": "closed",
        "locked/one": "closed",
    }


def test_a_backend_that_was_changed_starts_anew() -> None:
    """A mended token need not wait; attempts under the old one change nothing."""
    trial = Trial()
    now_s = trial.clocks.now_s
    assert trial.health.enter("b", "old", now_s) is None
    for _ in range(5):
        trial.attempt(errors.BackendError("no"))
        trial.attempt(errors.BackendError("no"), backend="other")
    trial.attempt(errors.AccountRefused("no"), "third")
    trial.health.forget("b")
    trial.health.leave("b", "old", now_s, errors.AccountRefused("no"), began_s=now_s)

    assert (trial.why(), trial.why("old")) == (None, None)
    assert trial.why(backend="other") is not None


def test_an_attempt_from_before_a_change_does_no_harm() -> None:
    """Its model has a fresh breaker by then, which opens, probes and closes as any."""
    trial = Trial()
    now_s = trial.clocks.now_s
    assert trial.health.enter("b", "m", now_s) is None
    trial.health.forget("b")
    trial.why()
    trial.health.leave("b", "m", now_s, None, began_s=now_s)
    for _ in range(5):
        trial.attempt(errors.BackendError("no"))
    trial.clocks.go(5.0)
    trial.attempt(None)

    assert trial.health.snapshot() == {"b/m": "closed"}
