"""All calls together retry a fifth of what is in flight, or three."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.dispatch.retry_budget import RetryBudget


@pytest.mark.parametrize(("calls", "retries"), [(0, 3), (1, 3), (15, 3), (19, 3), (20, 4), (100, 20)])
def test_a_fifth_of_the_calls_may_be_retries(calls: int, retries: int) -> None:
    """And three, however few calls run."""
    budget = RetryBudget()
    for _ in range(calls):
        budget.begin_call()

    assert [budget.begin_retry() for _ in range(retries + 2)] == [True] * retries + [False] * 2


def test_a_place_given_back_can_be_taken_again() -> None:
    """The budget is of what runs, not of what ever ran."""
    budget = RetryBudget()
    for _ in range(100):
        assert budget.begin_retry()
        budget.end_retry()

    assert budget.retries_count == 0


@given(st.lists(st.sampled_from(["call", "over", "retry", "tried"]), max_size=200))
def test_the_budget_holds_whatever_comes(course: list[str]) -> None:
    """No order of beginnings and ends lets a retry begin beyond it."""
    budget = RetryBudget()
    calls = retries = 0
    for what in course:
        if what == "call":
            calls += 1
            budget.begin_call()
        elif what == "over" and calls:
            calls -= 1
            budget.end_call()
        elif what == "tried" and retries:
            retries -= 1
            budget.end_retry()
        elif what == "retry":
            allowed = budget.begin_retry()
            assert allowed == (retries < max(3, int(0.2 * calls + 1e-9)))
            retries += allowed
    assert (budget.calls_count, budget.retries_count) == (calls, retries)
