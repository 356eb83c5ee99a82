"""What a configuration comes to: every default filled in, every timeout merged, no secret shown."""

from __future__ import annotations

from typing import Any

from hybrid_router.config import timeouts
from hybrid_router.config.backend_schema import LocalBackend
from hybrid_router.config.schema import Alias, Config, Loaded, TryStep
from hybrid_router.config.secrets import sources
from hybrid_router.config.spelling import mapping
from hybrid_router.core.units import duration_text

HIDDEN = "***"


def effective(loaded: Loaded) -> dict[str, Any]:
    """The configuration as a mapping that YAML can write.

    `timeouts` stand at each alias (for the call) and at each of its steps (for an attempt), where
    they hold, instead of where they were written.
    """
    shown = mapping(loaded.config)
    shown.pop("timeouts", None)
    shown["server"]["keys"] = [{"name": key.name, "sha256": HIDDEN} for key in loaded.config.server.keys]
    for name, backend in loaded.config.backends.items():
        shown["backends"][name].pop("timeouts", None)
        for key, _ in sources(backend):
            *above, last = key.split(".")
            there = shown["backends"][name]
            for part in above:
                there = there[part]
            there[last] = HIDDEN if f"{name}.{key}" in loaded.secrets else "absent"
    for name, alias in loaded.config.aliases.items():
        shown["aliases"][name] = _alias(loaded.config, alias)
    return shown


def _alias(config: Config, alias: Alias) -> dict[str, Any]:
    shown = mapping(alias) | {
        "try": [{"step": step.step, "timeouts": _waits(config, alias, step)} for step in alias.try_],
        "timeouts": {"total": duration_text(timeouts.of_call(config, alias))},
    }
    return {key: shown[key] for key in ("try", "timeouts", *shown) if key in shown}


def _waits(config: Config, alias: Alias, step: TryStep) -> dict[str, Any]:
    """The waits of an attempt; a cloud has no `load`."""
    merged = mapping(timeouts.of_step(config, alias, step))
    local = isinstance(config.backends[step.backend], LocalBackend)
    return {key: merged[key] for key in timeouts.ATTEMPT if local or key != "load"}
