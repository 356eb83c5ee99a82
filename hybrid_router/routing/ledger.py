"""What calls cost in neurons, and what an account may still use today.  Pure."""

from __future__ import annotations

from datetime import UTC, datetime, time

from msgspec import Struct

from hybrid_router.config import cloud_schema
from hybrid_router.core.call import Call, Operation
from hybrid_router.routing.estimate import ORDER_TOKENS, text_tokens

NEURON_USD = 0.000011  # Workers AI pricing, 2026-08-28: 0.011 USD for a thousand
_PROMPT_MARGIN = 2.0  # prompts were never more than 1.7 times their estimate, see `routing.estimate`
_SHOWN_MARGIN = 1.5  # the same for text that was written
_ON_THE_WAY_TOKENS = 32  # written there before the end of a call that was cut was noticed


class Rate(Struct, frozen=True, kw_only=True):
    """What a model costs, in neurons for a million tokens."""

    input: float
    output: float
    cached_input: float


class Allowance(Struct, frozen=True, kw_only=True):
    """What may be used now.

    Attributes:
        neurons: that any call may use: the day's, held back by pace, reserve and what is reserved by calls
            that still run; with those that `overflow_usd` pays for.
        reserve_neurons: the same for calls with `reserve`.
        overflow_usd: dollars among `neurons`: what they cost once the day's own are gone.
        because: what holds the rest back, as in `the pace allows no more before 18:00 UTC`.
        until: when there is more.
    """

    neurons: float
    reserve_neurons: float
    overflow_usd: float = 0.0
    because: str = ""
    until: datetime | None = None


def cost(rate: Rate, prompt_tokens: float, completion_tokens: float, cached_tokens: float = 0) -> float:
    """Neurons that so many tokens cost; `cached_tokens` are part of `prompt_tokens`."""
    spent = (prompt_tokens - cached_tokens) * rate.input + cached_tokens * rate.cached_input
    return (spent + completion_tokens * rate.output) / 1_000_000


def most(rate: Rate, call: Call, prompt_tokens: int, default_max_tokens: int) -> float:
    """The most that a call may cost, in neurons: what planning compares and the meter reserves.

    Every choice sends its prompt again.  What is estimated is doubled.

    Args:
        prompt_tokens: of all prompts, estimated.
        default_max_tokens: of a choice, where the client names no limit.
    """
    told = call.sampling.max_tokens
    answer_tokens = call.choices_count * (default_max_tokens if told is None else told)
    return cost(rate, _PROMPT_MARGIN * _sent_tokens(call, prompt_tokens), answer_tokens)


def unfinished(rate: Rate, call: Call, prompt_tokens: int, shown_tokens: int) -> float:
    """The most that was used by a call that ended without its usage, in neurons; tokens are estimated."""
    written_tokens = _SHOWN_MARGIN * shown_tokens + _ON_THE_WAY_TOKENS
    return cost(rate, _PROMPT_MARGIN * _sent_tokens(call, prompt_tokens), written_tokens)


def _sent_tokens(call: Call, prompt_tokens: int) -> int:
    orders = ORDER_TOKENS * len(call.prompts) if call.operation is Operation.TRANSLATE else 0
    return call.n * (prompt_tokens + orders + text_tokens(call.written))


def daily_most(config: cloud_schema.Neurons) -> float:
    """Neurons that a day may cost, those included that are paid for."""
    return config.daily + (config.overflow_usd or 0.0) / NEURON_USD


def paid_usd(config: cloud_schema.Neurons, neurons: float) -> float:
    """Dollars that a day of `neurons` costs."""
    return max(0.0, neurons - config.daily) * NEURON_USD


def pace(config: cloud_schema.Neurons, now: datetime) -> tuple[float, datetime] | None:
    """Neurons that may be gone now, and when there are more; None: nothing holds them back."""
    wall = now.astimezone(UTC)
    until = next((clock for clock in sorted(config.pace) if clock > f"{wall:%H:%M}"), None)
    if until is None:
        return None
    return config.pace[until] * config.daily, datetime.combine(wall.date(), time.fromisoformat(until), UTC)
