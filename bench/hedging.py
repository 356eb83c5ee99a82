"""The hedging part: a simulation on first tokens of which one in twenty is slow.

Two clouds that are alike; each call is planned with what was learned so far.  The second one is asked too
when the first is later than `first_token_p90_s`; whoever is first answers, the other is let go, and then all
that is known of it is how long it was waited for.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from msgspec import Struct

from bench.trace import SEED, Cloud
from hybrid_router.core.backend import IDLE
from hybrid_router.routing.speed import Sample, Speed, learned, predicted

TARGET_LESS, TARGET_MORE_CALLS = 0.6, 0.08
_CALLS_COUNT = 20_000
_UNCOUNTED = 200
_GAP_S = 5.0
_FIRST = Cloud(name="cloud/first", intercept_s=0.4, token_s=0.0002, pace_s=1 / 60)
_SECOND = Cloud(name="cloud/second", intercept_s=0.45, token_s=0.0002, pace_s=1 / 60)


class Hedging(Struct, kw_only=True):
    """The whole part.

    Attributes:
        plain_p50_s, plain_p99_s: first tokens of the first cloud alone.
        hedged_p50_s, hedged_p99_s: of the race.
        more_calls: hedges for each call.
    """

    said: str
    calls_count: int
    plain_p50_s: float
    plain_p99_s: float
    hedged_p50_s: float
    hedged_p99_s: float
    more_calls: float

    @property
    def less(self) -> float:
        """By which share the p99 is lower."""
        return 1 - self.hedged_p99_s / self.plain_p99_s


def measure(say: Callable[[str], None]) -> Hedging:
    """Simulate."""
    say("simulating hedges")
    chance = random.Random(SEED)  # noqa: S311 - the same figures each time
    plain, hedged, hedges_count = [], [], 0
    first: Speed | None = None
    second: Speed | None = None
    for number in range(_CALLS_COUNT + _UNCOUNTED):
        prompt_tokens = int(20 * 75 ** chance.random())
        at_s = number * _GAP_S
        first_s = _FIRST.first_token_s(prompt_tokens, chance)
        second_s = _SECOND.first_token_s(prompt_tokens, chance)
        delay_s = predicted(first, IDLE, prompt_tokens, 0, 1).first_token_p90_s
        raced = delay_s is not None and first_s > delay_s
        taken_s = min(first_s, (delay_s or 0.0) + second_s) if raced else first_s
        first = learned(first, _sample(prompt_tokens, first_s, taken_s, at_s), local=False)
        if raced:
            waited_s = taken_s - (delay_s or 0.0)
            second = learned(second, _sample(prompt_tokens, second_s, waited_s, at_s), local=False)
        if number >= _UNCOUNTED:
            plain.append(first_s)
            hedged.append(taken_s)
            hedges_count += raced
    return _hedging(sorted(plain), sorted(hedged), hedges_count)


def _sample(prompt_tokens: int, actual_s: float, waited_s: float, at_s: float) -> Sample:
    """What an attempt teaches whose answer was waited for only so long."""
    answered = actual_s <= waited_s
    return Sample(
        at_s=at_s,
        prompt_tokens=prompt_tokens if answered else 0,
        completion_tokens=1 if answered else 0,
        first_token_s=waited_s,
        total_s=waited_s,
        answered=answered,
        estimated_tokens=prompt_tokens,
    )


def _hedging(plain: list[float], hedged: list[float], hedges_count: int) -> Hedging:
    cloud = _FIRST
    return Hedging(
        said=(
            f"generated (seed {SEED}): ({cloud.intercept_s:g} s + {cloud.token_s * 1000:g} ms a prompt "
            f"token) x lognormal {cloud.sigma:g}, one first token in twenty {cloud.slow_factor:g} x later; "
            f"the second cloud the same with {_SECOND.intercept_s:g} s"
        ),
        calls_count=len(plain),
        plain_p50_s=plain[len(plain) // 2],
        plain_p99_s=plain[int(len(plain) * 0.99)],
        hedged_p50_s=hedged[len(hedged) // 2],
        hedged_p99_s=hedged[int(len(hedged) * 0.99)],
        more_calls=hedges_count / len(plain),
    )
