"""What happened to a call: one row an attempt, kept while it runs and logged once when it ends."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct, field

from hybrid_router.core.event import Batch, Finish, Usage
from hybrid_router.core.step import Plan

Outcome: TypeAlias = Literal["running", "answered", "failed", "broken", "refused", "cancelled"]


class Attempt(Struct, kw_only=True):
    """One run of a step.  Times are seconds of the event loop's clock."""

    backend: str
    model: str
    started_s: float
    outcome: Outcome = "running"
    first_event_s: float | None = None
    ended_s: float | None = None
    error: str | None = None
    detail: str = ""
    usage: Usage | None = None
    finished_count: int = 0

    def note(self, batch: Batch, now_s: float) -> None:
        """Count what a batch brought."""
        if self.first_event_s is None:
            self.first_event_s = now_s
        for event in batch:
            if isinstance(event, Finish):
                self.finished_count += 1
            elif isinstance(event, Usage):
                self.usage = event


class Record(Struct, kw_only=True):
    """A call's decision and its attempts.

    `ignored` names fields of the request that the answering backend does not know.
    """

    id: str
    plan: Plan
    attempts: list[Attempt] = field(default_factory=list)
    ignored: tuple[str, ...] = ()

    @property
    def last(self) -> Attempt | None:
        """The attempt that answered, or the last that failed."""
        return self.attempts[-1] if self.attempts else None
