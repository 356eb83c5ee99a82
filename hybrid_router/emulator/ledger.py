"""What the account has used: neurons a UTC day, calls a minute.  Decides by the clock it is given."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

Now = Callable[[], datetime]


class Ledger:
    """Counters of one account.  `daily_neurons` None: the paid plan, nothing ends."""

    def __init__(self, now: Now, daily_neurons: float | None) -> None:
        self._now = now
        self.daily_neurons = daily_neurons
        self._day = ""
        self._used = 0.0
        self._minute = ""
        self._calls: dict[str, int] = {}

    @property
    def day(self) -> str:
        """The UTC day that is being counted, ISO."""
        return self._now().strftime("%Y-%m-%d")

    @property
    def used(self) -> float:
        """Neurons used since 00:00 UTC."""
        if self._day != self.day:
            self._day, self._used = self.day, 0.0
        return self._used

    @property
    def spent(self) -> bool:
        """Whether today's allowance is used up."""
        return self.daily_neurons is not None and self.used >= self.daily_neurons

    def charge(self, neurons: float) -> None:
        """Count a call's neurons.  The call that crosses the limit is still answered."""
        self._used = self.used + neurons

    def admit(self, what: str, limit: int | None) -> bool:
        """Count one call of `what` in this minute; False when `limit` was reached before it."""
        minute = self._now().strftime("%Y-%m-%dT%H:%M")
        if self._minute != minute:
            self._minute, self._calls = minute, {}
        made = self._calls.get(what, 0)
        if limit is not None and made >= limit:
            return False
        self._calls[what] = made + 1
        return True
