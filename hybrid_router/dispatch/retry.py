"""Whether a failed step is tried again, and when.  Pure."""

from __future__ import annotations

from hybrid_router.core.errors import RouterError
from hybrid_router.core.step import Treatment


def pause_s(
    error: RouterError, retry_count: int, treatment: Treatment, left_s: float, chance: float
) -> float | None:
    """Seconds to wait before the same step is tried again; None: it is not.

    Args:
        retry_count: how often it was tried again already.
        left_s: what is left of the call's deadline.
        chance: from 0 to 1, for the jitter.
    """
    return None
