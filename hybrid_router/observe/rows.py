"""The rows of attempts and calls: which fields, under which names.

The words are read through protocols: this room imports only `core`, and records live in `dispatch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from hybrid_router.core.backend import GENERATES


class CallLike(Protocol):
    """What is read of a call."""

    @property
    def id(self) -> str: ...
    @property
    def operation(self) -> str: ...
    @property
    def alias(self) -> str: ...
    @property
    def principal(self) -> str: ...
    @property
    def stream(self) -> bool: ...


class UsageLike(Protocol):
    """What is read of an answer's usage."""

    @property
    def prompt_tokens(self) -> int: ...
    @property
    def completion_tokens(self) -> int: ...
    @property
    def cached_tokens(self) -> int: ...
    @property
    def neurons(self) -> float | None: ...
    @property
    def queue_s(self) -> float | None: ...
    @property
    def prefill_s(self) -> float | None: ...
    @property
    def decode_s(self) -> float | None: ...
    @property
    def drafted_tokens(self) -> int: ...
    @property
    def accepted_tokens(self) -> int: ...
    @property
    def sound_s(self) -> float: ...


class AttemptLike(Protocol):
    """What is read of an attempt."""

    @property
    def backend(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def started_s(self) -> float: ...
    @property
    def outcome(self) -> str: ...
    @property
    def first_event_s(self) -> float | None: ...
    @property
    def ended_s(self) -> float | None: ...
    @property
    def error(self) -> str | None: ...
    @property
    def detail(self) -> str: ...
    @property
    def usage(self) -> UsageLike | None: ...
    @property
    def mode(self) -> str: ...
    @property
    def retry(self) -> int: ...
    @property
    def hedge(self) -> bool: ...


class RecordLike(Protocol):
    """What is read of a call's record."""

    @property
    def id(self) -> str: ...
    @property
    def attempts(self) -> Sequence[object]: ...


class AttemptRow(Struct, kw_only=True, omit_defaults=True):
    """The row of an attempt that has ended, in the order written.  None: not known, and not written."""

    time: str
    level: str
    event: str
    decision: str
    call: str
    attempt: int | None = None
    outcome: str
    mode: str | None = None
    retry: int | None = None
    hedge: bool | None = None
    backend: str
    model: str
    alias: str
    operation: str
    principal: str
    stream: bool
    ttft_s: float | None = None
    duration_s: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    sound_s: float | None = None
    neurons: float | None = None
    error: str | None = None
    detail: str | None = None


class CallRow(Struct, kw_only=True, omit_defaults=True):
    """The row of an HTTP request that has ended, in the order written.  None: not known, and not written."""

    time: str
    level: str
    event: str
    request: str
    method: str
    path: str
    status: int
    duration_s: float
    principal: str | None = None
    alias: str | None = None
    decision: str | None = None
    error: str | None = None


def attempt_row(
    time: str, level: str, call: CallLike, record: RecordLike, attempt: AttemptLike
) -> AttemptRow:
    """The row of an attempt that has ended."""
    usage = attempt.usage
    return AttemptRow(
        time=time,
        level=level,
        event="attempt",
        decision=record.id,
        call=call.id,
        attempt=_place(record, attempt),
        outcome=attempt.outcome,
        mode=None if attempt.mode == "fresh" else attempt.mode,
        retry=attempt.retry or None,
        hedge=attempt.hedge or None,
        backend=attempt.backend,
        model=attempt.model,
        alias=call.alias,
        operation=str(call.operation),
        principal=call.principal,
        stream=call.stream,
        ttft_s=_since(attempt.started_s, attempt.first_event_s),
        duration_s=_since(attempt.started_s, attempt.ended_s),
        prompt_tokens=_counted(call, usage.prompt_tokens) if usage else None,
        completion_tokens=_counted(call, usage.completion_tokens) if usage else None,
        cached_tokens=_counted(call, usage.cached_tokens) if usage else None,
        sound_s=round(usage.sound_s, 3) if usage and usage.sound_s else None,
        neurons=usage.neurons if usage else None,
        error=attempt.error,
        detail=attempt.detail or None,
    )


def _counted(call: CallLike, tokens: int) -> int | None:
    """Tokens, where the answer is text; other answers may have nothing to do with any: none is left out."""
    return tokens if tokens or call.operation in GENERATES else None


def _place(record: RecordLike, attempt: AttemptLike) -> int | None:
    """Which attempt of its call this is, from 1."""
    for at, one in enumerate(record.attempts, 1):
        if one is attempt:
            return at
    return None


def _since(start_s: float, end_s: float | None) -> float | None:
    return None if end_s is None else round(end_s - start_s, 6)
