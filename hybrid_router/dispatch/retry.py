"""Whether a failed step is tried again, and when.  Pure.

Only what may pass within a moment is worth it: no capacity, a connection that broke, an internal error.
Everything else is the next step's: the time is gone, the network is, the day's allowance is, or asking
the same again gives the same.
"""

from __future__ import annotations

from hybrid_router.core.errors import (
    BackendError,
    BackendMisconfigured,
    BackendTimeout,
    BackendUnreachable,
    Benched,
    Inexpressible,
    PrefillRefused,
    QueueFull,
    QuotaExhausted,
    RouterError,
)
from hybrid_router.core.step import Treatment

FIRST_S = 0.25  # the longest first wait; each later one may be twice as long
_IN_VAIN = (
    BackendMisconfigured,
    BackendTimeout,
    BackendUnreachable,
    Benched,
    Inexpressible,
    PrefillRefused,
    QueueFull,
    QuotaExhausted,
)


def pause_s(
    error: RouterError, retry_count: int, treatment: Treatment, left_s: float, chance: float
) -> float | None:
    """Seconds to wait before the same step is tried again; None: it is not.

    Args:
        error: raised before the first event.
        retry_count: how often it was tried again already.
        left_s: what is left of the call's deadline.
        chance: from 0 to 1, for the jitter.
    """
    if retry_count >= treatment.retries:
        return None
    if not isinstance(error, BackendError) or isinstance(error, _IN_VAIN):
        return None
    wait_s = error.retry_after_s
    if wait_s is None:
        # Full jitter: callers that failed together do not come back together.
        wait_s = chance * min(FIRST_S * 2**retry_count, treatment.retry_wait_s)
    return wait_s if wait_s <= treatment.retry_wait_s and wait_s < left_s else None
