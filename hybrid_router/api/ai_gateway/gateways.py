"""The gateways of router.yaml at work: what each has kept, counted and noted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from aiohttp import web

from hybrid_router.api.ai_gateway.error import NoGateway
from hybrid_router.api.generation import Generation
from hybrid_router.config.front_schema import FrontGateway, RateLimit
from hybrid_router.core.errors import BackendBusy
from hybrid_router.core.units import duration_text
from hybrid_router.gateway.cache import Cache, Kept
from hybrid_router.gateway.controls import Controls
from hybrid_router.gateway.logbook import Logbook
from hybrid_router.gateway.rate import Rate

SWEEP_S = 60.0


def named(request: web.Request) -> str:
    """The name of the gateway that an address has; of several steps it may end with a slash."""
    return request.match_info["gateway"].rstrip("/")


class Gateway:
    """One gateway.  Its settings may change under it; its log stays."""

    def __init__(self, settings: FrontGateway, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._limit: RateLimit | None = None
        self._rate: Rate | None = None
        self.log = Logbook()
        self.cache = Cache()
        self.apply(settings)

    def apply(self, settings: FrontGateway) -> None:
        """Go by these settings from here on.  What was kept may be answered otherwise by them: it goes."""
        self.settings = settings
        self.cache.clear()
        if settings.rate_limit != self._limit:
            limit = self._limit = settings.rate_limit
            self._rate = None if limit is None else Rate(limit.calls, limit.interval, limit.technique)

    @property
    def controls(self) -> Controls:
        """What holds if neither step nor request says anything."""
        own = self.settings
        return Controls(
            cache_ttl_s=None if own.cache_ttl == "off" else own.cache_ttl,
            request_timeout_s=own.request_timeout,
            max_attempts=own.max_attempts,
            retry_delay_s=own.retry_delay,
            backoff=own.backoff,
            collect_log=own.collect_logs,
        )

    def admits(self) -> bool:
        """Count a call; False: it is one too many."""
        return self._rate is None or self._rate.admit(self._clock())

    def full(self, name: str) -> BackendBusy:
        """What a call too many of the gateway `name` is told: whose limit it met, and when there is room."""
        if (limit := self._limit) is None or self._rate is None:  # pragma: no cover - then it is never full
            return BackendBusy("Rate limited")
        calls = "1 call" if limit.calls == 1 else f"{limit.calls} calls"
        return BackendBusy(
            f"Rate limited: the gateway {name} takes {calls} in {duration_text(limit.interval)}, "
            "by its rate_limit in router.yaml",
            retry_after_s=self._rate.wait_s(self._clock()),
        )

    def find(self, name: bytes) -> Kept | None:
        """An answer that was kept."""
        return self.cache.find(name, self._clock())


class Gateways:
    """All of them, by name, as the current generation has them."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._of: Generation | None = None
        self._gateways: dict[str, Gateway] = {}
        self._sweeping = False

    @property
    def now_s(self) -> float:
        """The time on the gateways' clock, since the epoch."""
        return self._clock()

    def find(self, generation: Generation, name: str) -> Gateway:
        """A gateway of a generation's router.yaml.

        Raises:
            NoGateway: there is none of this name.
        """
        if generation is not self._of:
            self._take_up(generation)
        if (found := self._gateways.get(name)) is None:
            raise NoGateway(f"there is no gateway {name[:64]!r}: add it to `gateways` in router.yaml")
        return found

    def keep(self, gateway: Gateway, name: bytes, answer: Kept) -> None:
        """Keep an answer; it is let go of soon after its time is over, whether somebody asks or not."""
        gateway.cache.put(name, answer)
        if not self._sweeping:
            self._sweep_later()

    def _sweep_later(self) -> None:
        """One timer for all answers: one for each would hold what was dropped long before, for a month."""
        self._sweeping = True
        asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = False
        caches = [gateway.cache for gateway in self._gateways.values()]
        for cache in caches:
            cache.sweep(self._clock())
        if any(len(cache) for cache in caches):
            self._sweep_later()

    def _take_up(self, generation: Generation) -> None:
        """Go by another generation; a gateway that is gone loses what it had."""
        known, self._gateways, self._of = self._gateways, {}, generation
        for name, settings in generation.fronts.gateways.items():
            if (gateway := known.get(name)) is None:
                gateway = Gateway(settings, self._clock)
            else:
                gateway.apply(settings)
            self._gateways[name] = gateway


GATEWAYS: Final = web.AppKey("gateways", Gateways)
