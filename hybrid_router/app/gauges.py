"""Numbers that are kept elsewhere and told by /metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import get_args

from hybrid_router.app.hooks import Hooks
from hybrid_router.app.live import Succession
from hybrid_router.app.memory import Memory
from hybrid_router.dispatch.breaker import Word
from hybrid_router.observe.lag import LagWatch
from hybrid_router.observe.logs import Logs
from hybrid_router.observe.metrics import Metrics
from hybrid_router.workers.house import House
from hybrid_router.workers.tenant import Phase, Tenant

_STATES = get_args(Word)


def watch_process(metrics: Metrics, hooks: Hooks, logs: Logs, lag: LagWatch) -> None:
    """What the process itself can lose."""
    metrics.watch(
        "hybrid_router_event_loop_stalls_total",
        "How often something kept the process from serving.",
        (),
        lambda: {(): lag.stalls_count},
        kind="counter",
    )
    metrics.watch(
        "hybrid_router_log_lines_lost_total",
        "Lines of the log that nobody will read.",
        (),
        lambda: {(): logs.lost_count},
        kind="counter",
    )
    metrics.watch(
        "hybrid_router_hooks_failed_total",
        "How often somebody who hears of calls failed at it.",
        ("hook",),
        lambda: hooks.failed_count,
        kind="counter",
    )


def watch_calls(metrics: Metrics, succession: Succession) -> None:
    """What is in flight, in whichever configuration."""
    metrics.watch(
        "hybrid_router_in_flight",
        "Calls that have begun and not ended.",
        (),
        lambda: {(): succession.in_flight_count},
    )


def watch_models(metrics: Metrics, house: House) -> None:
    """Who of the models on this machine is in memory."""
    metrics.watch(
        "hybrid_router_model_resident",
        "1 for a model on this machine that is in memory.",
        ("backend", "model"),
        lambda: _by_model((tenant.name, tenant.phase is Phase.RESIDENT) for tenant in _tenants(house)),
    )
    metrics.watch(
        "hybrid_router_model_memory_bytes",
        "What a model on this machine is counted for while it is loaded, by kind of memory.",
        ("backend", "model", "kind"),
        lambda: {
            (*where, kind): count
            for kind in ("ram", "vram")
            for where, count in _by_model(
                (tenant.name, getattr(tenant.need, f"{kind}_bytes") if tenant.takes_room else 0)
                for tenant in _tenants(house)
            ).items()
        },
    )
    metrics.watch(
        "hybrid_router_model_loads_total",
        "How often a model on this machine was loaded.",
        ("backend", "model"),
        lambda: _by_model(house.loads.items()),
        kind="counter",
    )
    metrics.watch(
        "hybrid_router_model_evictions_total",
        "How often a model on this machine left memory.",
        ("backend", "model", "reason"),
        lambda: {(*name.split("/", 1), reason): count for (name, reason), count in house.evictions.items()},
        kind="counter",
    )


def _tenants(house: House) -> Iterable[Tenant]:
    return house.residency.tenants.values()


def _by_model(named: Iterable[tuple[str, float]]) -> dict[tuple[str, ...], float]:
    """Numbers by backend and model; while a reload lets go of one, there may be two of a name."""
    summed: defaultdict[str, float] = defaultdict(float)
    for name, number in named:
        summed[name] += number
    return {tuple(name.split("/", 1)): float(number) for name, number in summed.items()}


def watch_knowledge(metrics: Metrics, memory: Memory) -> None:
    """What is known of backends, and what the day has cost."""
    knowledge = memory.knowledge
    metrics.watch(
        "hybrid_router_breaker",
        "1 for the state in which a model's breaker is.",
        ("backend", "model", "state"),
        lambda: {
            (*name.split("/", 1), state): float(word == state)
            for name, word in knowledge.health.snapshot().items()
            for state in _STATES
        },
    )
    metrics.watch(
        "hybrid_router_unreachable",
        "Clouds to which no connection can be made at present.",
        ("backend",),
        lambda: dict.fromkeys(((name,) for name in knowledge.network.why_unreachable), 1.0),
    )
    metrics.watch(
        "hybrid_router_neurons_left",
        "Neurons that any call may still use today.",
        ("backend",),
        lambda: {(name,): allowance.neurons for name, allowance in knowledge.meter.allowances().items()},
    )
    metrics.watch(
        "hybrid_router_retries_in_flight",
        "Attempts that run and are another try of their step.",
        (),
        lambda: {(): knowledge.retries.retries_count},
    )
    metrics.watch(
        "hybrid_router_records_lost_total",
        "Decision records that could not be written.",
        (),
        lambda: {(): memory.lost_count},
        kind="counter",
    )
