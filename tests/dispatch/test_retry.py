"""Whether a failed step is tried again, and when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.core import errors
from hybrid_router.core.step import Treatment
from hybrid_router.dispatch.retry import pause_s

AGAIN = [errors.BackendBusy, errors.BackendUnavailable, errors.BackendError]
IN_VAIN = [
    errors.AccountRefused,
    errors.BackendMisconfigured,
    errors.BackendTimeout,
    errors.BackendUnreachable,
    errors.Benched,
    errors.ConnectTimeout,
    errors.Inexpressible,
    errors.PrefillRefused,
    errors.QueueFull,
    errors.QuotaExhausted,
    errors.CallRefused,
    errors.ContextOverflow,
    errors.NoBackend,
    errors.RedactionImpossible,
    errors.StreamBroken,
]


@pytest.mark.parametrize("kind", AGAIN)
def test_what_may_pass_is_tried_again(kind: type[errors.RouterError]) -> None:
    """No capacity, a broken connection, an internal error: after a random part of 250 ms."""
    assert pause_s(kind("no"), 0, Treatment(), 60.0, 0.5) == 0.125


@pytest.mark.parametrize("kind", IN_VAIN)
def test_what_will_not_pass_is_the_next_step_s(kind: type[errors.RouterError]) -> None:
    """The time is gone, the network is, the allowance is, or the answer would be the same."""
    assert pause_s(kind("no"), 0, Treatment(retries=5), 60.0, 0.5) is None


def test_every_error_of_a_backend_is_one_or_the_other() -> None:
    """A new kind of error has to say whether trying again makes sense."""

    def kinds(of: type[errors.RouterError]) -> set[type[errors.RouterError]]:
        below = [kind for kind in of.__subclasses__() if kind.__module__ == errors.__name__]
        return {of}.union(*(kinds(kind) for kind in below))

    undecided = kinds(errors.BackendError).difference(AGAIN)
    assert [kind for kind in undecided if not issubclass(kind, tuple(IN_VAIN))] == []


@pytest.mark.parametrize(("retries", "tried"), [(0, 0), (1, 1), (5, 5)])
def test_the_policy_says_how_often(retries: int, tried: int) -> None:
    """`retries: 0` never, and never more than it says."""
    busy = errors.BackendBusy("full")
    pauses = [pause_s(busy, count, Treatment(retries=retries), 60.0, 0.5) for count in range(8)]

    assert [pause is not None for pause in pauses] == [count < tried for count in range(8)]


@pytest.mark.parametrize(
    ("told_s", "left_s", "expected"),
    [
        (0.0, 60.0, 0.0),
        (1.5, 60.0, 1.5),
        (2.0, 60.0, 2.0),
        (2.1, 60.0, None),  # longer than the policy waits
        (60.0, 600.0, None),  # a minute's rate limit
        (1.5, 1.5, None),  # nothing would be left
        (1.5, 1.0, None),
    ],
)
def test_advice_is_obeyed_or_the_next_step_is_taken(
    told_s: float, left_s: float, expected: float | None
) -> None:
    """Exactly as told, never sooner."""
    busy = errors.BackendBusy("full", retry_after_s=told_s)

    assert pause_s(busy, 0, Treatment(), left_s, 0.5) == expected


@given(
    kind=st.sampled_from(AGAIN),
    told_s=st.none() | st.floats(0, 1e6),
    retry_count=st.integers(0, 6),
    retries=st.integers(0, 5),
    retry_wait_s=st.floats(0.001, 100),
    left_s=st.floats(-10, 700),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_a_wait_stays_within_every_limit(
    *,
    kind: type[errors.RouterError],
    told_s: float | None,
    retry_count: int,
    retries: int,
    retry_wait_s: float,
    left_s: float,
    chance: float,
) -> None:
    """The policy's longest wait, the doubling step, the deadline, the count."""
    treatment = Treatment(retries=retries, retry_wait_s=retry_wait_s)
    wait_s = pause_s(kind("no", retry_after_s=told_s), retry_count, treatment, left_s, chance)

    if wait_s is None:
        return
    assert retry_count < retries
    assert 0 <= wait_s <= retry_wait_s
    assert wait_s < left_s
    assert wait_s == told_s if told_s is not None else wait_s <= 0.25 * 2**retry_count
