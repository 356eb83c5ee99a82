"""Who is well: a breaker for each model, a bench for each account, and what an attempt's end says of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from msgspec import Struct

from hybrid_router.core.errors import (
    AccountRefused,
    BackendBusy,
    BackendError,
    BackendUnreachable,
    Benched,
    BrokenByCall,
    CallRefused,
    Inexpressible,
    PrefillRefused,
    QueueFull,
    QuotaExhausted,
    RouterError,
    StreamBroken,
)
from hybrid_router.dispatch.breaker import Breaker, Word, span

LONGEST_ADVICE_S = 3600.0
ACCOUNT_BENCH_S = 60.0
CLOCKS_DIFFER_S = 120.0  # at most: a day that has just begun here may still be the old one there
_SAYS_NOTHING = (
    AccountRefused,  # benched instead
    BackendUnreachable,  # dispatch.network looks after it
    Benched,
    Inexpressible,
    PrefillRefused,
    QueueFull,
    QuotaExhausted,  # benched instead
)
_Sign: TypeAlias = Literal["well", "failed", "nothing"]


class AccountBench(Struct, frozen=True):
    """A whole backend is left alone.  It ends when either clock says so.

    The monotonic clock may stand still while the machine sleeps, the wall clock may be set to any time: a
    day's end that came meanwhile is seen on the one, and the other cannot lose it.
    """

    until_s: float
    until: datetime
    why: str

    def left_s(self, now_s: float, now: datetime) -> float:
        """Seconds to go; 0 or less: it is over."""
        return min(self.until_s - now_s, (self.until - now).total_seconds())


class Health:
    """What is known of every model's and every account's state.

    Args:
        clock: monotonic seconds; the `now_s` of every method are of this clock.
        wall: the aware wall clock.
    """

    def __init__(self, clock: Callable[[], float], wall: Callable[[], datetime]) -> None:
        self._clock = clock
        self._wall = wall
        self._breakers: dict[tuple[str, str], Breaker] = {}
        self._benches: dict[str, AccountBench] = {}

    def why_down(self, backend: str, model: str, now_s: float) -> str | None:
        """Why a model may not be asked now, in one sentence; None if it may.  Changes nothing."""
        bench = self._benches.get(backend)
        if bench is not None and (left_s := bench.left_s(now_s, self._wall())) > 0:
            return f"{bench.why} (asked again in {span(left_s)})"
        breaker = self._breakers.get((backend, model))
        return None if breaker is None else breaker.why_not(now_s)

    def wait_s(self, backend: str, model: str, now_s: float) -> float | None:
        """Seconds until a model may be asked; None: it may be now, or nobody knows when.  Changes nothing."""
        bench, breaker = self._benches.get(backend), self._breakers.get((backend, model))
        left_s = 0.0 if bench is None else bench.left_s(now_s, self._wall())
        if breaker is not None:
            left_s = max(left_s, breaker.wait_s(now_s) or 0.0)
        return left_s if left_s > 0 else None

    def enter(self, backend: str, model: str, now_s: float) -> str | None:
        """Begin an attempt; a reason: it may not run, and must not `leave`.

        Where the breaker is half-open the attempt is its probe.
        """
        why = self.why_down(backend, model, now_s)
        if why is None:
            self._benches.pop(backend, None)
            self._breakers.setdefault((backend, model), Breaker()).enter(now_s)
        return why

    def leave(
        self,
        backend: str,
        model: str,
        now_s: float,
        error: RouterError | None,
        *,
        cancelled: bool = False,
        began_s: float | None = None,
    ) -> None:
        """End an attempt that entered.

        Args:
            error: what it raised; None: it answered.
            cancelled: it was given up for reasons of our own, and says nothing.
            began_s: when it began, so that one from before a breaker opened is not taken for its probe.
        """
        breaker = self._breakers.get((backend, model))
        if breaker is None:  # forgotten meanwhile
            return
        sign = "nothing" if cancelled else _sign(error)
        if error is not None and not cancelled:
            self._bench(backend, breaker, error, now_s)
        if sign == "well":
            breaker.succeeded(now_s, began_s)
        elif sign == "failed":
            breaker.failed(now_s, began_s)
        else:
            breaker.let_go(began_s)

    def forget(self, backend: str) -> None:
        """Start anew with a backend: its token, account or address has changed."""
        self._benches.pop(backend, None)
        for key in [key for key in self._breakers if key[0] == backend]:
            del self._breakers[key]

    def snapshot(self) -> dict[str, Word]:
        """`backend/model` → its state's name, for every model that was asked so far."""
        now_s, now = self._clock(), self._wall()
        benched = {name for name, bench in self._benches.items() if bench.left_s(now_s, now) > 0}
        return {
            f"{backend}/{model}": "benched" if backend in benched else breaker.word(now_s)
            for (backend, model), breaker in self._breakers.items()
        }

    def _bench(self, backend: str, breaker: Breaker, error: RouterError, now_s: float) -> None:
        """Leave alone who said when to come back, or who will refuse everything."""
        if isinstance(error, QuotaExhausted):
            self._bench_account(backend, _day_left_s(error, self._wall()), error.message, now_s)
        elif isinstance(error, AccountRefused):
            self._bench_account(backend, ACCOUNT_BENCH_S, error.message, now_s)
        elif (wait_s := _advice_s(error)) is not None:
            breaker.bench(now_s + wait_s, error.message)

    def _bench_account(self, backend: str, for_s: float, why: str, now_s: float) -> None:
        now = self._wall()
        held = self._benches.get(backend)
        if held is None or held.left_s(now_s, now) < for_s:
            self._benches[backend] = AccountBench(now_s + for_s, now + timedelta(seconds=for_s), why)


def _day_left_s(error: QuotaExhausted, now: datetime) -> float:
    """Seconds until the allowance is renewed, at 00:00 UTC unless the error says otherwise.

    Who is told so right after 00:00 may be ahead of the backend's clock, and would lose a whole day.
    """
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    begun_s = (now - today).total_seconds()
    if begun_s < CLOCKS_DIFFER_S:
        return CLOCKS_DIFFER_S - begun_s
    if error.retry_after_s is not None:
        return error.retry_after_s
    return (today + timedelta(days=1) - now).total_seconds()


def _advice_s(error: RouterError) -> float | None:
    """How long a busy backend asks to be left alone, if it says so and the wait makes sense."""
    if not isinstance(error, BackendBusy) or isinstance(error, QueueFull) or error.retry_after_s is None:
        return None
    return error.retry_after_s if error.retry_after_s <= LONGEST_ADVICE_S else None


def _sign(error: RouterError | None) -> _Sign:
    """What an attempt's end says of its backend.  A call that it refused was understood."""
    if error is None or isinstance(error, CallRefused | BrokenByCall):
        return "well"
    if isinstance(error, _SAYS_NOTHING) or _advice_s(error) is not None:
        return "nothing"
    return "failed" if isinstance(error, BackendError | StreamBroken) else "nothing"
