"""How much of an account's minute is used, so that a call beyond it goes to the next step at once.

Cloudflare counts requests a minute, for each task or model, and tells nobody how many are left.  Counted here
is what this process sends, in any 60 seconds: whenever Cloudflare's minute begins, it is never more.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from urllib.parse import unquote

from hybrid_router.catalogue.workers_ai import Catalogue
from hybrid_router.core.errors import BackendBusy, Inexpressible

MINUTE_S = 60.0
_RUN = "run/"


def limits(known: Catalogue) -> dict[str, tuple[str, int]]:
    """Model → what it is counted as, and how many of those a minute holds, where that is known."""
    return {
        model.id: (known.counted_as(model), limit)
        for model in known.models
        if (limit := known.minute_limit(model)) is not None
    }


class Minutes:
    """The minutes of every account.  One for the process, so that backends of one account share them.

    Args:
        limits: model → what it is counted as, and how many of those a minute holds.
        clock: seconds that go forward.
    """

    def __init__(
        self,
        limits: Mapping[str, tuple[str, int]] = MappingProxyType({}),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = dict(limits)
        self._clock = clock
        self._accounts: dict[str, Minute] = {}

    def follow(self, limits: Mapping[str, tuple[str, int]]) -> None:
        """Keep every account to these from now on; what was sent in the last minute still counts."""
        self._limits.clear()
        self._limits |= limits

    def of(self, account: str) -> Minute:
        """The minute of one account, told apart by any name."""
        return self._accounts.setdefault(account, Minute(self._limits, self._clock))


class Minute:
    """What one account has been asked in the last 60 seconds.  See `Minutes`."""

    def __init__(self, limits: Mapping[str, tuple[str, int]], clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._sent: dict[str, deque[float]] = {}  # never more than a minute's, so bounded by the limits

    def take(self, model: str, count: int = 1) -> None:
        """Count `count` requests that are about to be sent; a model without a known limit is not counted.

        Raises:
            BackendBusy: the minute has no room for them; nothing is counted.
            Inexpressible: no minute has.
        """
        if model not in self._limits:
            return
        name, limit = self._limits[model]
        if count > limit:
            raise Inexpressible(
                f"Workers AI takes {limit} requests a minute of {name} and this call needs {count}: "
                "ask for less at once"
            )
        now_s = self._clock()
        sent = self._sent.setdefault(name, deque())
        while sent and sent[0] <= now_s - MINUTE_S:
            sent.popleft()
        over_count = len(sent) + count - limit
        if over_count > 0:
            wait_s = min(MINUTE_S, sent[over_count - 1] + MINUTE_S - now_s)
            raise BackendBusy(
                f"the account's {limit} requests a minute of {name} are used: "
                f"Workers AI takes more in {wait_s:.0f} s",
                retry_after_s=wait_s,
            )
        sent.extend([now_s] * count)

    def take_for(self, path: str) -> None:
        """The same for one request to `path` below `/ai/`; what runs no model is not counted."""
        if path.startswith(_RUN):
            self.take(unquote(path.removeprefix(_RUN)))
