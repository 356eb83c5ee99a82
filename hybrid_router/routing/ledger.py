"""What a day's calls have cost in neurons, and what may still be used.  Pure.

Cloudflare counts by UTC days.
"""

from __future__ import annotations

from msgspec import Struct


class Rate(Struct, frozen=True, kw_only=True):
    """What a model costs, in neurons for a million tokens."""

    input: float
    output: float
    cached_input: float


class Allowance(Struct, frozen=True, kw_only=True):
    """What may be used now.

    Attributes:
        neurons: that any call may use: the day's, held back by pace, reserve and what is reserved by calls
            that still run.
        reserve_neurons: the same for calls with `reserve`.
        overflow_usd: dollars that may be spent beyond.
        because: what holds the rest back, as in `the pace allows no more before 18:00 UTC`.
    """

    neurons: float
    reserve_neurons: float
    overflow_usd: float = 0.0
    because: str = ""


def cost(rate: Rate, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float:
    """Neurons that so many tokens cost; `cached_tokens` are part of `prompt_tokens`."""
    spent = (prompt_tokens - cached_tokens) * rate.input + cached_tokens * rate.cached_input
    return (spent + completion_tokens * rate.output) / 1_000_000
