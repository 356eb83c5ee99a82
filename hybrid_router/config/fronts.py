"""What cannot be meant in `dialects` and `gateways`: aliases that are none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hybrid_router.config.problems import KeyPath, Problems, did_you_mean
from hybrid_router.config.schema import Config


def check_front(config: Config, problems: Problems) -> None:
    """Note every alias that is named and is not there."""
    spoken = config.dialects.workers_ai
    _check_aliases(spoken.models, ("dialects", "workers_ai", "models"), problems)
    _check_aliases(spoken.tasks, ("dialects", "workers_ai", "tasks"), problems)
    for name, gateway in config.gateways.items():
        for provider, models in gateway.providers.items():
            _check_aliases(models, ("gateways", name, "providers", provider), problems)


def _check_aliases(named: Mapping[Any, str], path: KeyPath, problems: Problems) -> None:
    known = problems.names(("aliases",))  # one with mistakes of its own exists all the same
    for key, alias in named.items():
        if alias not in known:
            problems.add((*path, key), f"no alias {alias}{did_you_mean(alias, known)}")
