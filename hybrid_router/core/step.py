"""A plan and its steps: what routing decides and dispatch runs."""

from __future__ import annotations

from msgspec import Struct


class Timeouts(Struct, frozen=True, kw_only=True):
    """Five waits, in seconds.  All but `between_tokens_s` count from the start of the attempt
    (`total_s`: of the call), so connect ≤ load ≤ first_token ≤ total, and between_tokens ≤ total.
    """

    connect_s: float
    load_s: float
    first_token_s: float
    between_tokens_s: float
    total_s: float


class Step(Struct, frozen=True, kw_only=True):
    """One entry of a plan: who runs it, how long it may take, and which rule put it there."""

    backend: str
    model: str
    timeouts: Timeouts
    because: str

    @property
    def name(self) -> str:
        """`backend/model`, as router.yaml writes it."""
        return f"{self.backend}/{self.model}"


class LeftOut(Struct, frozen=True, kw_only=True):
    """A step that may not run now, and why."""

    step: str
    because: str


class Plan(Struct, frozen=True, kw_only=True):
    """Steps in order, who was left out, and which rules fired.  `refused` set: no step runs."""

    steps: tuple[Step, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    rules: tuple[str, ...] = ()
    refused: str | None = None
    total_s: float = 0.0
