"""What a reply tells of its usage."""

from __future__ import annotations

from hybrid_router.backends.chunks import Counts
from hybrid_router.backends.tally import Tally
from hybrid_router.core.event import Usage


def usage(told: Counts | None) -> list[Usage]:
    """As an event; none if nothing was told."""
    if told is None:
        return []
    tally = Tally()
    tally.take(told, alone=True)
    return [] if tally.usage is None else [tally.usage]
