"""How far long work is, in the log: a recording of an hour should not look like a call that hangs."""

from __future__ import annotations

import logging

from hybrid_router.core.call import Call
from hybrid_router.core.event import Batch, Progress
from hybrid_router.core.step import Step

_log = logging.getLogger(__name__)
EVERY_S = 10.0


class Tidings:
    """Of one call: every `EVERY_S` at most, and nothing of what is quickly done."""

    def __init__(self, call: Call, step: Step, now_s: float) -> None:
        self._call = call
        self._step = step
        self._told_s = now_s

    def note(self, batch: Batch, now_s: float) -> None:
        """Log the last progress among the events, if it is time to."""
        if now_s - self._told_s < EVERY_S:
            return
        share = next((event.share for event in reversed(batch) if isinstance(event, Progress)), None)
        if share is None:
            return
        self._told_s = now_s
        _log.info("%s is at %d %% of %s", self._step.name, int(share * 100), self._call.id)
