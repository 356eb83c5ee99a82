"""How many retries all calls together may make, so that trouble is not met with more calls.  Pure."""

from __future__ import annotations

SHARE = 0.2
LEAST_COUNT = 3


class RetryBudget:
    """Counts what is in flight: retries are at most a fifth of the calls, or three.

    Attributes:
        calls_count: calls that run, whichever attempt they are at.
        retries_count: attempts that are another try of their step, and run or wait for their time.
    """

    __slots__ = ("calls_count", "retries_count")

    def __init__(self) -> None:
        self.calls_count = 0
        self.retries_count = 0

    def begin_call(self) -> None:
        """A call runs."""
        self.calls_count += 1

    def end_call(self) -> None:
        """A call is over."""
        self.calls_count -= 1

    def begin_retry(self) -> bool:
        """Take a place; False: none is left, and there is nothing to end."""
        if self.retries_count + 1 > max(LEAST_COUNT, SHARE * self.calls_count):
            return False
        self.retries_count += 1
        return True

    def end_retry(self) -> None:
        """Give a place back."""
        self.retries_count -= 1
