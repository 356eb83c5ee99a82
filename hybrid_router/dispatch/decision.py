"""A decision record as it is stored and shown: what was decided, why, and what became of it.

Error texts of backends stay out: they are for the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TypeVar

from msgspec import Struct

from hybrid_router.core.backend import Load
from hybrid_router.core.call import Call, Feature
from hybrid_router.core.event import Usage
from hybrid_router.core.step import LeftOut, Plan, Prediction, Step, Treatment
from hybrid_router.dispatch.features import Features, Sought, Words, features, words
from hybrid_router.dispatch.record import Attempt, Mode, Outcome, Record
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.ledger import Allowance
from hybrid_router.store.decisions import Row

T = TypeVar("T")

_TOKEN_BYTES = 4
_ROW_BYTES = 4096
_MEDIA_BYTES = 2**20  # of a call with pictures or sound, whose size nobody has counted
_MEDIA = frozenset({Feature.IMAGES, Feature.AUDIO})
_FIRST_ERROR, _FIRST_OF_OURS = 400, 500  # among HTTP's statuses
_LEFT = frozenset({"client_gone", "client_stall", "cancelled"})


class Ending(Struct, frozen=True, kw_only=True):
    """How a call ended, as its client saw it.

    Attributes:
        at_s: when it began, Unix time.
        started_s: the same on the loop's clock.
        status, error: see `api.answers.Ended`.
    """

    at_s: float
    started_s: float
    duration_s: float
    status: int
    error: str | None


class StepMade(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A step of the plan."""

    step: str
    because: str
    predicted: Prediction | None = None
    context: int | None = None


class Counted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an attempt used, as its backend counted it; see `core.event.Usage`."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    neurons: float | None = None
    queue_s: float | None = None
    prefill_s: float | None = None
    decode_s: float | None = None
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    sound_s: float | None = None


class AttemptMade(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt; see `dispatch.record.Attempt`.

    Attributes:
        started_s: from the call's start.
        first_token_s, total_s: from the attempt's.
    """

    step: str
    outcome: Outcome
    started_s: float
    error: str | None = None
    first_token_s: float | None = None
    total_s: float | None = None
    usage: Counted | None = None
    neurons: float | None = None
    mode: Mode = "fresh"
    begin_char: int | None = None
    end_char: int | None = None
    diverged_at_char: int | None = None
    retry: int = 0
    hedge: bool = False
    depth: int = 1
    loading: bool = False
    remarks: dict[str, str] = {}


class Circumstances(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The facts of the time, as far as they concern the plan's steps; see `routing.facts.Facts`."""

    online: bool = True
    off: dict[str, str] = {}
    down: dict[str, str] = {}
    unreachable: dict[str, str] = {}
    contexts: dict[str, int] = {}
    loads: dict[str, Load] = {}
    cached: dict[str, int] = {}
    allowances: dict[str, Allowance] = {}


class Decision(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The whole record."""

    id: str
    at: float
    alias: str
    principal: str
    outcome: str
    status: int
    error: str | None
    duration_s: float
    refused: str | None
    rules: tuple[str, ...]
    local_only: bool
    treatment: Treatment
    total_s: float
    steps: tuple[StepMade, ...]
    left_out: tuple[LeftOut, ...]
    attempts: tuple[AttemptMade, ...]
    features: Features
    skipped: tuple[LeftOut, ...] = ()
    ignored: tuple[str, ...] = ()
    neurons_left: float | None = None
    facts: Circumstances | None = None
    text: Words | None = None


def row(call: Call, record: Record, ending: Ending, looks_for: Sought, *, prompts: bool) -> Row:
    """What the store keeps of a call that has ended.  Cheap: the document is made later, in a thread.

    Args:
        prompts: keep the text too, unless it may not leave the call.
    """
    plan = record.plan
    media = bool(call.features) and bool(_MEDIA & call.features)
    # Facts may be live views of what others write to; everything else stands still by now.
    facts = None if record.facts is None else circumstances(record.facts, plan)
    return Row(
        id=record.id,
        principal=call.principal,
        alias=call.alias,
        at_s=ending.at_s,
        outcome=outcome(record, ending),
        local_only=plan.local_only,
        document=partial(decision, call, record, ending, looks_for, facts, prompts=prompts),
        size_bytes=_ROW_BYTES + _TOKEN_BYTES * plan.prompt_tokens + media * _MEDIA_BYTES,
    )


def outcome(record: Record, ending: Ending) -> Outcome:
    """A call's end in the words of its attempts."""
    if ending.error is None:
        return "answered"
    if ending.error in _LEFT:
        return "cancelled"
    if ending.status < _FIRST_ERROR:
        return "broken"
    if record.last is None:
        return "refused" if ending.status < _FIRST_OF_OURS else "failed"
    return "refused" if record.last.outcome == "refused" else "failed"


def decision(
    call: Call,
    record: Record,
    ending: Ending,
    looks_for: Sought,
    facts: Circumstances | None = None,
    *,
    prompts: bool = False,
) -> Decision:
    """The whole record.  Reads the call's text if rules do; for a thread."""
    plan = record.plan
    return Decision(
        id=record.id,
        at=ending.at_s,
        alias=call.alias,
        principal=call.principal,
        outcome=outcome(record, ending),
        status=ending.status,
        error=ending.error,
        duration_s=_rounded(ending.duration_s),
        refused=plan.refused,
        rules=plan.rules,
        local_only=plan.local_only,
        treatment=plan.treatment,
        total_s=plan.total_s,
        steps=tuple(map(step_made, plan.steps)),
        left_out=plan.left_out,
        attempts=tuple(_attempt_made(attempt, ending.started_s) for attempt in record.attempts),
        features=features(call, plan.prompt_tokens, ending.at_s, looks_for),
        skipped=tuple(record.skipped),
        ignored=record.ignored,
        neurons_left=record.neurons_left,
        facts=facts,
        text=words(call) if prompts and not plan.local_only else None,
    )


def step_made(step: Step) -> StepMade:
    """A step without its waits, which router.yaml says."""
    return StepMade(step=step.name, because=step.because, predicted=step.predicted, context=step.context)


def _attempt_made(attempt: Attempt, call_started_s: float) -> AttemptMade:
    started_s, first_s, ended_s = attempt.started_s, attempt.first_event_s, attempt.ended_s
    return AttemptMade(
        step=attempt.step,
        outcome=attempt.outcome,
        started_s=_rounded(max(0.0, started_s - call_started_s)),
        error=attempt.error,
        first_token_s=None if first_s is None else _rounded(first_s - started_s),
        total_s=None if ended_s is None else _rounded(ended_s - started_s),
        usage=None if attempt.usage is None else _counted(attempt.usage),
        neurons=attempt.neurons,
        mode=attempt.mode,
        begin_char=attempt.begin_char,
        end_char=attempt.end_char,
        diverged_at_char=attempt.diverged_at_char,
        retry=attempt.retry,
        hedge=attempt.hedge,
        depth=attempt.depth,
        loading=attempt.loading,
        remarks=attempt.remarks,
    )


def _counted(usage: Usage) -> Counted:
    counted = {name: getattr(usage, name) for name in Counted.__struct_fields__}
    return Counted(**counted | {"sound_s": usage.sound_s or None})


def circumstances(facts: Facts, plan: Plan) -> Circumstances:
    """The facts of now, without those of other aliases' steps."""
    steps = [step.name for step in plan.steps] + [left.step for left in plan.left_out]
    backends = {step.partition("/")[0] for step in steps}
    return Circumstances(
        online=facts.online,
        off=_of(facts.off, backends),
        down=_of(facts.down, steps),
        unreachable=_of(facts.unreachable, backends),
        contexts=_of(facts.contexts, steps),
        loads=_of(facts.loads, steps),
        cached=_of(facts.cached, steps),
        allowances=_of(facts.allowances, backends),
    )


def _of(known: Mapping[str, T], names: Iterable[str]) -> dict[str, T]:
    return {name: known[name] for name in names if name in known} if known else {}


def _rounded(duration_s: float) -> float:
    """To microseconds: the clock knows no more, and digits cost room."""
    return round(duration_s, 6)
