"""What cannot be meant in a backend's `neurons`."""

from __future__ import annotations

from itertools import pairwise

from hybrid_router.config.cloud_schema import Neurons
from hybrid_router.config.problems import KeyPath, Problems


def check_neurons(neurons: Neurons, path: KeyPath, problems: Problems) -> None:
    """Note what would do nothing, or something else than it seems."""
    if neurons.reserve > neurons.daily:
        problems.add((*path, "reserve"), f"more than the day has: {neurons.daily:g}")
    stages = sorted(neurons.pace.items())
    for (before, less), (until, share) in pairwise(stages):
        if share < less:
            problems.add(
                (*path, "pace", until), f"less than {less:g}, which may be gone by {before}: it only grows"
            )
    if "00:00" in neurons.pace:
        problems.add((*path, "pace", "00:00"), "nothing comes before 00:00, when the day begins: remove it")
