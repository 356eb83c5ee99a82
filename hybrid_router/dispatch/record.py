"""What happened to a call: one row an attempt, kept while it runs and logged once when it ends."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct, field

from hybrid_router.core.errors import RouterError
from hybrid_router.core.event import (
    Batch,
    Finish,
    Reasoning,
    Remark,
    Text,
    ToolFragment,
    Usage,
    says_something,
)
from hybrid_router.core.step import LeftOut, Plan
from hybrid_router.routing.estimate import text_tokens
from hybrid_router.routing.facts import Facts

Outcome: TypeAlias = Literal["running", "answered", "failed", "broken", "refused", "cancelled"]


Mode: TypeAlias = Literal["fresh", "prefill", "replay"]


class Attempt(Struct, kw_only=True):
    """One run of a step.  Times are seconds of the event loop's clock.

    Attributes:
        mode: from the start; going on from the text that is out; or from the start, with what is out
            already swallowed.
        streams: its client is shown what comes as it comes.
        hedge: it ran beside another attempt.
        retry: which try of its step it was, from 0.
        first_event_s: when the answer began; signs of life do not count.
        depth: calls that ran there when it began, itself included.
        queued: all places of its model were taken then.
        out_of_time: the call's own deadline ended it, which says nothing of its backend.
        loading: its model was not in memory when it began.
        begin_char, end_char: which part of the client's text it wrote, if others wrote parts too.
        shown_tokens: of text, reasoning and arguments that came so far, estimated.
        diverged_at_char: where a replay said something else than the client had been given.
        neurons: what it is counted with, told or estimated; None: it is not counted.
        remarks: what a gateway on the way said of it, by name.
    """

    backend: str
    model: str
    started_s: float
    outcome: Outcome = "running"
    first_event_s: float | None = None
    ended_s: float | None = None
    error: str | None = None
    detail: str = ""
    usage: Usage | None = None
    choices_count: int = 1
    streams: bool = False
    finished_count: int = 0
    shown_tokens: int = 0
    mode: Mode = "fresh"
    hedge: bool = False
    retry: int = 0
    depth: int = 1
    queued: bool = False
    out_of_time: bool = False
    loading: bool = False
    begin_char: int | None = None
    end_char: int | None = None
    diverged_at_char: int | None = None
    neurons: float | None = None
    remarks: dict[str, str] = field(default_factory=dict)

    @property
    def step(self) -> str:
        """`backend/model`."""
        return f"{self.backend}/{self.model}"

    @property
    def whole(self) -> bool:
        """Whether every choice has its finish reason."""
        return self.finished_count >= self.choices_count

    def note(self, batch: Batch, now_s: float) -> None:
        """Count what a batch brought."""
        if self.first_event_s is None and says_something(batch):
            self.first_event_s = now_s
        for event in batch:
            if isinstance(event, Text | Reasoning):
                self.shown_tokens += text_tokens(event.text)
            elif isinstance(event, ToolFragment):
                self.shown_tokens += text_tokens(event.arguments)
            elif isinstance(event, Finish):
                self.finished_count += 1
            elif isinstance(event, Usage):
                self.usage = event
            elif isinstance(event, Remark):
                self.remarks[event.name] = event.text


class Record(Struct, kw_only=True):
    """A call's decision and its attempts.

    Attributes:
        refusal: why no step runs; None: the plan has some.
        skipped: steps that were not attempted after all, and why.
        ignored: fields of the request that the answering backend does not know.
        serving: the attempt whose answer the client is given.
        session: names the conversation to a cloud that keeps prefixes, and says nothing about it.
        neurons_left: what the day still allows at the backend that answers, where that is counted.
        facts: what the plan was made from, as it was then; None: nobody noted it.
    """

    id: str
    plan: Plan
    refusal: RouterError | None = None
    attempts: list[Attempt] = field(default_factory=list)
    skipped: list[LeftOut] = field(default_factory=list)
    ignored: tuple[str, ...] = ()
    serving: Attempt | None = None
    session: str | None = None
    neurons_left: float | None = None
    facts: Facts | None = None

    @property
    def last(self) -> Attempt | None:
        """The attempt that answers, or the last that failed."""
        return self.serving or (self.attempts[-1] if self.attempts else None)
