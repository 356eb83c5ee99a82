"""What a client allows its call at most, by header: less than the policy, never more."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from hybrid_router.core.errors import CallRefused
from hybrid_router.core.units import seconds

TIMEOUT = "x-router-timeout"
MAX_COST = "x-router-max-cost-usd"
_NUMBER = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)


def deadline_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that the whole call may take, from `x-router-timeout: 10` or `: 10s`; None: not limited.

    Raises:
        CallRefused: it is no such duration.
    """
    text = headers.get(TIMEOUT)
    if text is None:
        return None
    try:
        limit_s = float(text) if _NUMBER.fullmatch(text) else seconds(text.strip())
    except ValueError:
        limit_s = 0.0
    if not 0 < limit_s < math.inf:
        raise CallRefused(f"{TIMEOUT}: expected seconds or a duration, as in 10 or 500ms", param=TIMEOUT)
    return limit_s


def max_cost_usd(headers: Mapping[str, str]) -> float | None:
    """US dollars that the whole call may cost, from `x-router-max-cost-usd: 0.01`; None: not limited.

    Raises:
        CallRefused: it is no number.
    """
    text = headers.get(MAX_COST)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise CallRefused(f"{MAX_COST}: expected US dollars as a number, as in 0.01", param=MAX_COST)
    return float(text)
