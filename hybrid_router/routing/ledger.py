"""What calls cost, and what neurons an account may still use today.  Pure."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import Literal

from msgspec import Struct

from hybrid_router.catalogue import prices
from hybrid_router.catalogue.prices import Work
from hybrid_router.catalogue.usual import Usual, usual
from hybrid_router.catalogue.workers_ai import Price
from hybrid_router.config import cloud_schema
from hybrid_router.core.call import Call
from hybrid_router.routing.work import PROMPT_MARGIN, sent, the_most

NEURON_USD = 0.000011  # Workers AI pricing, 2026-08-28: 0.011 USD for a thousand
_SHOWN_MARGIN = 1.5  # the same for text that was written
_ON_THE_WAY_TOKENS = 32  # written there before the end of a call that was cut was noticed


class Rate(Struct, frozen=True, kw_only=True):
    """What a model costs.

    Attributes:
        input, output, cached_input: for a million tokens.
        currency: of these.  Dollars are never counted as an account's neurons.
        beyond: what other units cost, in neurons.
        usual: a picture as the model makes it by itself.
        translates: it does nothing else.
    """

    input: float
    output: float
    cached_input: float
    currency: Literal["neurons", "usd"] = "neurons"
    beyond: tuple[Price, ...] = ()
    usual: Usual = usual("")
    translates: bool = False

    def neurons(self, amount: float) -> float:
        """`amount` of its currency as neurons of an account: dollars are none."""
        return amount if self.currency == "neurons" else 0.0

    def usd(self, amount: float) -> float:
        """`amount` of its currency in dollars."""
        return amount if self.currency == "usd" else amount * NEURON_USD


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
    """What so many tokens cost; `cached_tokens` are part of `prompt_tokens`."""
    spent = (prompt_tokens - cached_tokens) * rate.input + cached_tokens * rate.cached_input
    return (spent + completion_tokens * rate.output) / 1_000_000


def price(rate: Rate, work: Work) -> float:
    """What work costs, in the rate's currency."""
    of_tokens = cost(rate, work.prompt_tokens, work.completion_tokens, work.cached_tokens)
    return of_tokens + prices.neurons(rate.beyond, work)


def most_work(rate: Rate, call: Call, prompt_tokens: int, default_max_tokens: int) -> Work:
    """The most that a model may have to do for a call.  Estimates of tokens are doubled."""
    return the_most(call, prompt_tokens, default_max_tokens, rate.usual, translates=rate.translates)


def most(rate: Rate, call: Call, prompt_tokens: int, default_max_tokens: int) -> float:
    """The most that a call may cost, in the rate's currency: what planning compares and the meter reserves.

    Every choice sends its prompt again.  What is estimated is doubled.

    Args:
        prompt_tokens: of all prompts, estimated.
        default_max_tokens: of a choice, where the client names no limit.
    """
    return price(rate, most_work(rate, call, prompt_tokens, default_max_tokens))


def unfinished(rate: Rate, call: Call, prompt_tokens: int, shown_tokens: int) -> float:
    """The most that tokens cost of a call that ended without its usage; they are estimated."""
    written_tokens = _SHOWN_MARGIN * shown_tokens + _ON_THE_WAY_TOKENS
    sent_tokens = sent(call, prompt_tokens, translates=rate.translates)
    return cost(rate, PROMPT_MARGIN * sent_tokens, written_tokens)


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
