"""Traces: what attempts took, recorded or made up, for benchmarks that replay them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from bench.processes import ROOT

TRACES = ROOT / "bench" / "traces"


class Row(Struct, frozen=True, array_like=True):
    """One attempt: what was known before it, and what came of it.

    Attributes:
        at_s: when it began, from the start of the trace.
        estimated_tokens: of the prompt, as rules see it (`routing.estimate`).
        max_tokens: the call's limit.
        running_count, waiting_count: at the model when it began, without it.
        ahead_tokens: estimated, of prompts that were still to be computed there.
        prompt_tokens, completion_tokens: counted by the model.
        first_token_s, total_s: from its start.
    """

    at_s: float
    estimated_tokens: int
    max_tokens: int
    running_count: int
    waiting_count: int
    ahead_tokens: int
    prompt_tokens: int
    completion_tokens: int
    first_token_s: float
    total_s: float


class Trace(Struct, frozen=True):
    """Attempts at one step, in the order in which they ended.  `said`: what it is, in a sentence."""

    said: str
    parallel: int | None
    rows: list[Row]


class Cloud(Struct, frozen=True, kw_only=True):
    """A made-up cloud: first token = intercept + slope x prompt, both times a lognormal factor.

    One first token in twenty is `slow_factor` times later.  Pace is lognormal too.
    """

    name: str
    intercept_s: float
    token_s: float
    pace_s: float
    sigma: float = 0.25
    slow_share: float = 0.05
    slow_factor: float = 10.0

    def first_token_s(self, prompt_tokens: int, chance: random.Random) -> float:
        """A first token's seconds."""
        usual_s = self.intercept_s + self.token_s * prompt_tokens
        slow = self.slow_factor if chance.random() < self.slow_share else 1.0
        return usual_s * math.exp(chance.gauss(0, self.sigma)) * slow

    def row(self, like: Row, chance: random.Random) -> Row:
        """What the call of `like` would have taken here."""
        first_s = self.first_token_s(like.prompt_tokens, chance)
        pace_s = self.pace_s * math.exp(chance.gauss(0, 0.1))
        total_s = first_s + pace_s * max(0, like.completion_tokens - 1)
        return msgspec.structs.replace(
            like, running_count=0, waiting_count=0, ahead_tokens=0, first_token_s=first_s, total_s=total_s
        )


CLOUDS = (
    Cloud(name="cloud/prompt", intercept_s=0.3, token_s=0.0002, pace_s=1 / 30),  # soon there, then slow
    Cloud(name="cloud/swift", intercept_s=1.2, token_s=0.0001, pace_s=1 / 120),  # the other way round
)
SEED = 20261122


def recorded(name: str) -> Trace:
    """A trace of the starter model that is kept with the benchmarks (`bench/record_trace.py`)."""
    return msgspec.json.decode((TRACES / f"{name}.json").read_bytes(), type=Trace)


def generated(cloud: Cloud, calls: Sequence[Row], seed: int = SEED) -> Trace:
    """The same calls at a made-up cloud."""
    chance = random.Random(f"{seed} {cloud.name}")  # noqa: S311 - the same figures each time
    said = (
        f"generated (seed {seed}): ({cloud.intercept_s:g} s + {cloud.token_s * 1000:g} ms a prompt token) x "
        f"lognormal {cloud.sigma:g}; {cloud.slow_share:.0%} of first tokens {cloud.slow_factor:g} x later"
    )
    return Trace(said, None, [cloud.row(call, chance) for call in calls])


def repeated(rows: Sequence[Row], times: int) -> list[Row]:
    """The same calls again and again, one round after the other."""
    span_s = max(row.at_s + row.total_s for row in rows)
    return [
        msgspec.structs.replace(row, at_s=row.at_s + again * span_s) for again in range(times) for row in rows
    ]
