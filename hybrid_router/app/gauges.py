"""Numbers that are kept elsewhere and told by /metrics."""

from __future__ import annotations

from hybrid_router.app.hooks import Hooks
from hybrid_router.app.live import Succession
from hybrid_router.observe.lag import LagWatch
from hybrid_router.observe.logs import Logs
from hybrid_router.observe.metrics import Metrics


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
