"""A plan and its steps: what routing decides and dispatch runs."""

from __future__ import annotations

from typing import Literal

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


class Prediction(Struct, frozen=True, kw_only=True):
    """What a step is expected to take and cost.  Seconds from the attempt's start; None: not known yet.

    `first_token_p90_s` is exceeded by at most one call in ten; `neurons` and `usd` are the most that the
    answer may cost, 0 on this machine.
    """

    first_token_s: float | None = None
    first_token_p90_s: float | None = None
    total_s: float | None = None
    neurons: float = 0.0
    usd: float = 0.0


class Treatment(Struct, frozen=True, kw_only=True):
    """How a plan is run: what its alias says, and the rules that hold."""

    on_break: Literal["continue", "error"] = "continue"
    on_divergence: Literal["splice", "error"] = "error"
    retries: int = 1
    retry_wait_s: float = 2.0
    hedge: bool = False
    prefer: Literal["listed", "fastest"] = "listed"
    spill_queue: int | None = None
    spill_first_token_s: float | None = None
    max_cost_usd: float | None = None
    affinity: bool = True
    redact: tuple[str, ...] = ()
    reserve: bool = False
    while_loading: Literal["wait", "cloud"] = "wait"


class Step(Struct, frozen=True, kw_only=True):
    """One entry of a plan: who runs it, how long it may take, and which rule put it there.

    `context`: tokens of prompt and answer that fit its model, where known.  `private`: nothing of the call
    may be kept on a disk.
    """

    backend: str
    model: str
    timeouts: Timeouts
    because: str
    predicted: Prediction | None = None
    context: int | None = None
    private: bool = False

    @property
    def name(self) -> str:
        """`backend/model`, as router.yaml writes it."""
        return f"{self.backend}/{self.model}"


class LeftOut(Struct, frozen=True, kw_only=True):
    """A step that may not run now, and why."""

    step: str
    because: str


class Plan(Struct, frozen=True, kw_only=True):
    """Steps in order, who was left out, and which rules fired.  `refused` set: no step runs.

    Attributes:
        local_only: nothing of this call may leave the machine, now or later.
        total_s: the call's deadline, from its start.
        prompt_tokens: estimated.
    """

    steps: tuple[Step, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    rules: tuple[str, ...] = ()
    refused: str | None = None
    total_s: float = 0.0
    local_only: bool = False
    treatment: Treatment = Treatment()
    prompt_tokens: int = 0
