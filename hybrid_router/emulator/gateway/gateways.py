"""Emulated gateways: what the API knows of them, and their state."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from hybrid_router.api.workers_ai.refusal import Refusal
from hybrid_router.gateway.cache import Cache
from hybrid_router.gateway.controls import Backoff, Controls
from hybrid_router.gateway.logbook import Logbook
from hybrid_router.gateway.rate import Rate

DEFAULT = "default"
_PAYLOAD_BYTES = 64 * 2**10
_MOST_PAYLOADS = 500
# Ours: the contract tells nothing of what a wrong gateway object is answered with.
_INVALID, _MISSING, _TAKEN = 7400, 7002, 7409


class GatewayObject(Struct, kw_only=True):
    """A gateway as the API has it; times in milliseconds where it says so."""

    id: str
    cache_invalidate_on_update: bool
    cache_ttl: int | None
    collect_logs: bool
    rate_limiting_interval: int | None
    rate_limiting_limit: int | None
    rate_limiting_technique: Literal["fixed", "sliding"] | None = "fixed"
    authentication: bool = False
    logpush: bool = False
    zdr: bool = False
    is_default: bool = False
    log_management: int | None = 100_000
    log_management_strategy: Literal["STOP_INSERTING", "DELETE_OLDEST"] = "DELETE_OLDEST"
    retry_max_attempts: int | None = None
    retry_delay: int | None = None
    retry_backoff: Backoff | None = None
    workers_ai_billing_mode: Literal["postpaid", "unified"] = "postpaid"
    created_at: str = ""
    modified_at: str = ""


class PlayedGateway:
    """One gateway at work."""

    def __init__(self, settings: GatewayObject) -> None:
        self.cache = Cache()
        self.log = Logbook()
        self.payloads: dict[str, tuple[bytes, bytes]] = {}  # by entry, the oldest first
        self.take(settings)

    def take(self, settings: GatewayObject) -> None:
        """Go by these settings."""
        self.settings = settings
        limit, interval_s = settings.rate_limiting_limit, settings.rate_limiting_interval
        technique = settings.rate_limiting_technique or "fixed"
        self._rate = Rate(limit, interval_s, technique) if limit and interval_s else None
        if settings.cache_invalidate_on_update:
            self.cache.clear()

    def keep(self, name: str, asked: bytes, answered: bytes) -> None:
        """Keep what an entry is of, as long as there are not many newer ones."""
        self.payloads[name] = (asked[:_PAYLOAD_BYTES], answered[:_PAYLOAD_BYTES])
        while len(self.payloads) > _MOST_PAYLOADS:
            del self.payloads[next(iter(self.payloads))]

    @property
    def controls(self) -> Controls:
        """What holds if neither step nor request says anything."""
        own = self.settings
        return Controls(
            cache_ttl_s=float(own.cache_ttl) if own.cache_ttl else None,
            max_attempts=own.retry_max_attempts,
            retry_delay_s=None if own.retry_delay is None else own.retry_delay / 1000,
            backoff=own.retry_backoff,
            collect_log=own.collect_logs,
        )

    def admits(self, now_s: float) -> bool:
        """Count a call; False: it is one too many."""
        return self._rate is None or self._rate.admit(now_s)


class PlayedGateways:
    """All of an account's.  One is there from the beginning, and wants its token."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._gateways: dict[str, PlayedGateway] = {}
        self.create(
            {
                "id": DEFAULT,
                "cache_invalidate_on_update": False,
                "cache_ttl": 0,
                "collect_logs": True,
                "rate_limiting_interval": 0,
                "rate_limiting_limit": 0,
                "authentication": True,
            }
        )
        self._gateways[DEFAULT].settings.is_default = True

    def find(self, name: str) -> PlayedGateway | None:
        """A gateway, if there is one."""
        return self._gateways.get(name)

    def get(self, name: str) -> PlayedGateway:
        """A gateway that is to be there.  Raises Refusal."""
        if (found := self._gateways.get(name)) is None:
            raise Refusal(_MISSING, "not found", status=404)
        return found

    def create(self, body: dict[str, Any]) -> GatewayObject:
        """Make one.  Raises Refusal: something is missing, wrong, or there already."""
        made = _read(body)
        if made.id in self._gateways:
            raise Refusal(_TAKEN, "a gateway of this id exists", status=409)
        made.created_at = made.modified_at = self._now().isoformat()
        made.is_default = False
        self._gateways[made.id] = PlayedGateway(made)
        return made

    def update(self, name: str, body: dict[str, Any]) -> GatewayObject:
        """Put other settings in the place of those it has."""
        found = self.get(name)
        made = _read({**body, "id": name})
        made.created_at, made.modified_at = found.settings.created_at, self._now().isoformat()
        made.is_default = found.settings.is_default
        found.take(made)
        return made

    def delete(self, name: str) -> GatewayObject:
        """Forget one, its log too."""
        self.get(name)
        return self._gateways.pop(name).settings

    def all(self) -> list[GatewayObject]:
        """Every one, by name."""
        return [self._gateways[name].settings for name in sorted(self._gateways)]


def _read(body: dict[str, Any]) -> GatewayObject:
    try:
        return msgspec.convert(body, GatewayObject)
    except msgspec.ValidationError as error:
        raise Refusal(_INVALID, str(error), status=400) from None
