"""Which wait holds where: defaults < global < backend < alias < step, key by key."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hybrid_router.config.backend_schema import Timeouts, Waits
from hybrid_router.config.schema import DEFAULT_TIMEOUTS, Alias, Config, TryStep

ATTEMPT = ("connect", "load", "first_token", "between_tokens")


def of_step(config: Config, alias: Alias, step: TryStep) -> Timeouts:
    """Every wait of one step of an alias, none of them None."""
    backend = config.backends[step.backend]
    layers = [DEFAULT_TIMEOUTS, config.timeouts, backend.timeouts, alias.timeouts, step.timeouts]
    return Timeouts(total=of_call(config, alias), **{key: _last(layers, key) for key in ATTEMPT})


def of_call(config: Config, alias: Alias) -> float:
    """How long a whole call to an alias may take, in seconds."""
    return _last([DEFAULT_TIMEOUTS, config.timeouts, alias.timeouts], "total")


def _last(layers: Sequence[Waits], key: str) -> float:
    """The value of `key` in the last layer that has one; the defaults have them all."""
    values = [getattr(layer, key) for layer in layers]
    return float(next(value for value in reversed(values) if value is not None))


def disorder(waits: Timeouts, *, local: bool) -> str | None:
    """What is impossible about these waits, or None.  A cloud loads nothing: there `load` plays no part."""
    order = ["connect", "load", "first_token", "total"] if local else ["connect", "first_token", "total"]
    pairs = [*pairwise(order), ("between_tokens", "total")]
    wrong = [
        f"{low} ({getattr(waits, low):g}s) is longer than {high} ({getattr(waits, high):g}s)"
        for low, high in pairs
        if getattr(waits, low) > getattr(waits, high)
    ]
    return " and ".join(wrong) or None
