"""How fast a step is, learned from its attempts, and what that means for a call.  Pure."""

from __future__ import annotations

from msgspec import Struct

from hybrid_router.core.backend import Load
from hybrid_router.core.step import Prediction


class Sample(Struct, frozen=True, kw_only=True):
    """One attempt that answered, as far as speed goes.

    Attributes:
        at_s: when, Unix time.
        prompt_tokens, cached_tokens, completion_tokens: as the backend counted them.
        first_token_s, total_s: from the attempt's start.
        depth: calls that ran there when it began, itself included.
        load_s: of it, spent until the model was in memory; 0 if it was.
        queue_s, prefill_s, decode_s: as the engine measured them; None: it did not.
    """

    at_s: float
    prompt_tokens: int
    completion_tokens: int
    first_token_s: float
    total_s: float
    cached_tokens: int = 0
    depth: int = 1
    load_s: float = 0.0
    queue_s: float | None = None
    prefill_s: float | None = None
    decode_s: float | None = None


class Speed(Struct, frozen=True, kw_only=True):
    """What was learned of one step."""

    sample_count: float = 0.0


def learned(speed: Speed | None, sample: Sample, *, local: bool) -> Speed:
    """`speed` with one more sample."""
    return Speed(sample_count=1 if speed is None else speed.sample_count + 1)


def predicted(
    speed: Speed | None, load: Load, prompt_tokens: int, cached_tokens: int, completion_tokens: int
) -> Prediction:
    """What a call is expected to take; unknown fields are None."""
    return Prediction()
