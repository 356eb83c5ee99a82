"""What the router has learned while it runs: it outlives a reload, and parts of it a restart."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime

from msgspec import Struct, field

from hybrid_router.dispatch.affinity import Affinity
from hybrid_router.dispatch.health import Health
from hybrid_router.dispatch.meter import Meter
from hybrid_router.dispatch.network import Network
from hybrid_router.dispatch.retry_budget import RetryBudget
from hybrid_router.dispatch.speeds import Speeds


def _health() -> Health:
    return Health(time.monotonic, lambda: datetime.now(UTC))


def _network() -> Network:
    return Network({})


def _meter() -> Meter:
    return Meter(None)


def _speeds() -> Speeds:
    return Speeds(None, time.time)


class Knowledge(Struct, kw_only=True):
    """All of it.

    Attributes:
        health: breakers and benches.
        network: which clouds can be reached.
        meter: what the day has cost.
        speeds: how fast every step is.
        affinity: who holds the beginning of which conversation.
        retries: how many more may run.
        salt: makes the names of conversations unguessable.
    """

    health: Health = field(default_factory=_health)
    network: Network = field(default_factory=_network)
    meter: Meter = field(default_factory=_meter)
    speeds: Speeds = field(default_factory=_speeds)
    affinity: Affinity = field(default_factory=Affinity)
    retries: RetryBudget = field(default_factory=RetryBudget)
    salt: bytes = field(default_factory=lambda: secrets.token_bytes(32))
