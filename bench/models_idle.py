"""What the router itself takes while no model is loaded."""

from __future__ import annotations

import statistics
import urllib.request
from pathlib import Path

from bench.llama_figures import ROUTER, Goal, Row, Section
from bench.models_setup import Setup, router

_MOST_MB = Goal(at_most=90, of_ratio=False)


def measure(setup: Setup) -> Section:
    """Start it anew each round, with a model that nobody asks for."""
    found = []
    for round_number in range(setup.rounds_count):
        setup.say(f"idle, round {round_number + 1}")
        with router("{ weights: minilm-l6-v2, engine: sentence_transformers, preload: false }") as service:
            with urllib.request.urlopen(f"{service.url}/v1/models") as reply:  # noqa: S310 - our own
                reply.read()
            found.append(_resident_mb(service.child.pid))
    rss_mb = statistics.median(found)
    row = Row(
        measure="resident memory MB",
        values={ROUTER: rss_mb},
        goal=_MOST_MB.text,
        met=_MOST_MB.met(rss_mb),
    )
    return Section(name="idle", title="The router without a model", rows=[row])


def _resident_mb(pid: int) -> float:
    """VmRSS, in millions of bytes."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) * 1024 / 1e6
