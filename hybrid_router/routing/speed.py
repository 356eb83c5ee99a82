"""How fast a step is, learned from its attempts, and what that means for a call.  Pure.

    first token = queue + load + line(prompt - cached + what is still to be computed for others)
    total       = first token + pace x (expected answer - 1)

Lines, paces and the time of whole calls are learned for each batch depth, in buckets of 1, 2, 3-4, 5-8, …
calls.  A model on this machine reads prompts one after the other at a rate, so its line begins near 0; a
cloud takes a fixed time and some more for each token, whatever else this router asks of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from hybrid_router.core.backend import Load
from hybrid_router.core.step import Prediction
from hybrid_router.routing.fit import HALF_LIFE_COUNT, Line, age

_ANSWER_TOKENS = 256  # of a step that nothing is known of
_FIRM_PACE_TOKENS = 32  # a shorter answer says less about the pace
_LATE_SHARE = 0.07
_LATE_STEP = 0.1
_LATE_AT_FIRST = math.log(1.5)
_LATE_AT_LEAST, _LATE_AT_MOST = math.log(1.05), math.log(20.0)
_LATE_COUNT = 10  # values before lateness is told


class Sample(Struct, frozen=True, kw_only=True):
    """One attempt, as far as speed goes.

    Attributes:
        at_s: when it ended, Unix time.
        prompt_tokens, cached_tokens, completion_tokens: as the backend counted them.
        first_token_s, total_s: from the attempt's start.
        depth: calls that ran there when it began, itself included.
        answered: False: nobody waited for its end; `first_token_s` and `total_s` are how long it was waited
            for in vain, and `prompt_tokens` is 0.
        loading: its model was not in memory when it began.
        queued: it waited for a place, nobody knows how long unless `queue_s` is set.
        max_tokens: what its answer was limited to; None: nothing.
        estimated_tokens: of the prompt, as `routing.estimate` has it; 0: not known.
        ahead_tokens: estimated, of prompts that were to be computed before it.
        queue_s, prefill_s, decode_s: as the engine measured them; None: it did not.
    """

    at_s: float
    prompt_tokens: int
    completion_tokens: int
    first_token_s: float
    total_s: float
    cached_tokens: int = 0
    depth: int = 1
    answered: bool = True
    loading: bool = False
    queued: bool = False
    max_tokens: int | None = None
    estimated_tokens: int = 0
    ahead_tokens: int = 0
    queue_s: float | None = None
    prefill_s: float | None = None
    decode_s: float | None = None


class Speed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was learned of one step.

    Attributes:
        local: it runs on this machine.
        at_s: the last sample's time.
        sample_count: samples, the old ones counting less.
        doubted: it was not measured for so long that it gets the benefit of the doubt (`dispatch.speeds`).
        firsts: depth's bucket → first token by prompt tokens; a cloud has one, for all depths.
        paces: depth's bucket → seconds between two tokens.
        calls: depth's bucket → seconds of a whole call.
        load: seconds until the model is in memory.
        sizes: a prompt's tokens as counted, templates included, by its estimated ones.
        answer_tokens, end_count: tokens of answers, and how many of these ended by themselves.
        late: the logarithm of first token / expected first token that 7 in 100 exceed.
        late_count: how many values `late` comes from.
    """

    local: bool = False
    at_s: float = 0.0
    sample_count: float = 0.0
    doubted: bool = False
    firsts: dict[int, Line] = field(default_factory=dict)
    paces: dict[int, Line] = field(default_factory=dict)
    calls: dict[int, Line] = field(default_factory=dict)
    load: Line = Line()
    sizes: Line = Line()
    answer_tokens: float = 0.0
    end_count: float = 0.0
    late: float = _LATE_AT_FIRST
    late_count: int = 0


def bucket(depth: int) -> int:
    """0 for one call, 1 for two, 2 for up to four, 3 for up to eight, …"""
    return max(0, depth - 1).bit_length()


def learned(speed: Speed | None, sample: Sample, *, local: bool) -> Speed:
    """`speed` with one more sample."""
    if speed is None or speed.local != local:
        speed = Speed(local=local)
    if not sample.answered:
        return _waited_in_vain(speed, sample)
    left = 0.5 ** (1 / HALF_LIFE_COUNT + age(speed.at_s, sample.at_s))
    speed = replace(speed, at_s=sample.at_s, sample_count=speed.sample_count * left + 1, doubted=False)
    speed = _with_first_token(speed, sample)
    return _with_answer(_with_size(speed, sample), sample, left)


def predicted(
    speed: Speed | None, load: Load, prompt_tokens: int, cached_tokens: int, completion_tokens: int
) -> Prediction:
    """What a call is expected to take; unknown fields are None.

    Args:
        prompt_tokens: estimated.
        cached_tokens: of them that need not be computed, as the backend counted them.
        completion_tokens: the most that the answer may have.
    """
    if speed is None:
        return Prediction()
    full = load.parallel is not None and load.running_count >= load.parallel
    depth = load.running_count + (0 if full else 1)
    alone_s = _rest_s(speed, depth, prompt_tokens, cached_tokens, 0)
    rest_s = _rest_s(speed, depth, prompt_tokens, cached_tokens, load.ahead_tokens)
    queue_s = _queue_s(speed, load) if full else 0.0
    load_s = speed.load.at(0) if load.loading else 0.0
    if alone_s is None or rest_s is None or queue_s is None or load_s is None:
        return Prediction()
    # Prompts ahead are read before a place is free, or meanwhile: the longer wait counts.
    first_s = load_s + max(queue_s + alone_s, rest_s)
    late_s = load_s + max(queue_s + alone_s * math.exp(speed.late), rest_s * math.exp(speed.late))
    return Prediction(
        first_token_s=first_s,
        first_token_p90_s=late_s if speed.late_count >= _LATE_COUNT else None,
        total_s=_total_s(speed, depth, first_s, completion_tokens),
    )


def room_s(speed: Speed | None, load: Load) -> float | None:
    """Seconds until a call fits in that does not now: until one of those that run ends, which lets one of
    those that wait take its place.  None: not known."""
    if speed is None:
        return None
    pause_s = _between_ends_s(speed, load)
    load_s = speed.load.at(0) if load.loading else 0.0
    return None if pause_s is None or load_s is None else load_s + pause_s


def answer_tokens(speed: Speed, most_tokens: int) -> float:
    """Tokens that an answer of at most so many is expected to have.

    Limits hide how long answers would have been.  Of lengths that decay exponentially, the mean is all tokens
    over all ends that were not the limit's; one end after 256 tokens is taken for granted.
    """
    if speed.sample_count <= 0:
        return min(most_tokens, _ANSWER_TOKENS)
    mean = (speed.answer_tokens + _ANSWER_TOKENS) / (speed.end_count + 1)
    return mean * -math.expm1(-most_tokens / mean)


def _rest_s(
    speed: Speed, depth: int, prompt_tokens: int, cached_tokens: int, ahead_tokens: int
) -> float | None:
    """Seconds to the first token once the model is there and the call has its place."""
    line = _nearest(speed.firsts, bucket(depth))
    if line is None:
        return None
    own_tokens = max(1.0, _counted(speed, prompt_tokens) - cached_tokens)
    others_tokens = _counted(speed, ahead_tokens) if speed.local else 0.0
    return line.at(own_tokens + others_tokens, steep=speed.local)


def _counted(speed: Speed, estimated_tokens: int) -> float:
    """What the model will count instead of an estimate; nothing stays nothing."""
    counted = speed.sizes.at(estimated_tokens, steep=True) if estimated_tokens else 0.0
    return estimated_tokens if counted is None else counted


def _queue_s(speed: Speed, load: Load) -> float | None:
    """Seconds until a place is free, once those are through that wait for one already."""
    pause_s = _between_ends_s(speed, load)
    return None if pause_s is None else (load.waiting_count + 1) * pause_s


def _between_ends_s(speed: Speed, load: Load) -> float | None:
    """Seconds from one call's end to the next where all places are taken: ends are evenly spread."""
    parallel = load.parallel or 1
    line = _nearest(speed.calls, bucket(parallel))
    call_s = None if line is None else line.at(0)
    return None if call_s is None else call_s / parallel


def _total_s(speed: Speed, depth: int, first_s: float, most_tokens: int) -> float | None:
    further_tokens = max(0.0, answer_tokens(speed, most_tokens) - 1)
    line = _nearest(speed.paces, bucket(depth))
    pace_s = None if line is None else line.at(0)
    if pace_s is None:
        return None if further_tokens else first_s
    return first_s + further_tokens * pace_s


def _nearest(lines: Mapping[int, Line], depth: int) -> Line | None:
    """What is known of a depth, or else of the one nearest to it."""
    if depth in lines or not lines:
        return lines.get(depth)
    return lines[min(lines, key=lambda known: (abs(known - depth), known))]


def _with_first_token(speed: Speed, sample: Sample) -> Speed:
    """What the time to the first token teaches: the line, or how long loading takes."""
    if sample.queued and sample.queue_s is None:
        return speed
    depth = sample.depth if speed.local else 1
    tokens = _tokens(speed, sample)
    waited_s = sample.first_token_s - (sample.queue_s or 0.0)
    line = _nearest(speed.firsts, bucket(depth))
    expected_s = None if line is None else line.at(tokens, steep=speed.local)
    if sample.loading:
        rest_s = expected_s or 0.0 if sample.prefill_s is None else sample.prefill_s
        return replace(speed, load=speed.load.learned(0, waited_s - rest_s, sample.at_s))
    firsts = _and(speed.firsts, bucket(depth), tokens, waited_s, sample.at_s, steep=speed.local)
    speed = replace(speed, firsts=firsts)
    return (
        speed if expected_s is None else _with_lateness(speed, waited_s > expected_s * math.exp(speed.late))
    )


def _tokens(speed: Speed, sample: Sample) -> float:
    """Prompt tokens that had to be computed before its first, once it had its place."""
    own_tokens = max(1, sample.prompt_tokens - sample.cached_tokens)
    alone = sample.queued or not speed.local
    return own_tokens if alone else own_tokens + _counted(speed, sample.ahead_tokens)


def _with_lateness(speed: Speed, late: bool) -> Speed:
    """A step up for each value beyond, a small one down for each below: in balance, 7 in 100 are beyond."""
    step = max(_LATE_STEP, 0.5 / (1 + speed.late_count))
    moved = speed.late + step * (late - _LATE_SHARE)
    return replace(
        speed, late=min(max(moved, _LATE_AT_LEAST), _LATE_AT_MOST), late_count=speed.late_count + 1
    )


def _waited_in_vain(speed: Speed, sample: Sample) -> Speed:
    """An attempt that was given up before its first token was late, if it was given the usual time.

    Without these the slowest would never count: a hedge that wins ends them.
    """
    rest_s = _rest_s(speed, sample.depth, sample.estimated_tokens, 0, sample.ahead_tokens)
    known = rest_s is not None and not sample.loading and not sample.queued
    if not known or rest_s is None or sample.first_token_s < rest_s * math.exp(speed.late):
        return speed
    return _with_lateness(speed, late=True)


def _with_size(speed: Speed, sample: Sample) -> Speed:
    if not sample.estimated_tokens or not sample.prompt_tokens:
        return speed
    sizes = speed.sizes.learned(sample.estimated_tokens, sample.prompt_tokens, sample.at_s, steep=True)
    return replace(speed, sizes=sizes)


def _with_answer(speed: Speed, sample: Sample, left: float) -> Speed:
    """What the answer teaches: its pace and its length."""
    count, at_s = sample.completion_tokens, sample.at_s
    cut = sample.max_tokens is not None and count >= sample.max_tokens
    speed = replace(
        speed,
        answer_tokens=speed.answer_tokens * left + count,
        end_count=speed.end_count * left + (0 if cut else 1),
    )
    depth = bucket(sample.depth)
    if count > 1:
        decode_s = sample.total_s - sample.first_token_s if sample.decode_s is None else sample.decode_s
        share = min(1.0, count / _FIRM_PACE_TOKENS)
        speed = replace(speed, paces=_and(speed.paces, depth, 0, decode_s / (count - 1), at_s, share=share))
    if sample.loading:
        return speed
    call_s = sample.total_s - _queued_s(speed, sample)
    return replace(speed, calls=_and(speed.calls, depth, 0, call_s, at_s))


def _queued_s(speed: Speed, sample: Sample) -> float:
    """How long it waited for a place: as measured, else what is beyond the usual time of a first token."""
    if sample.queue_s is not None or not sample.queued:
        return sample.queue_s or 0.0
    rest_s = _rest_s(speed, sample.depth, sample.estimated_tokens, 0, 0)
    return max(0.0, sample.first_token_s - (rest_s or 0.0))


def _and(
    lines: Mapping[int, Line],
    depth: int,
    x: float,
    y: float,
    at_s: float,
    *,
    steep: bool = False,
    share: float = 1.0,
) -> dict[int, Line]:
    """The lines with one more value at a depth."""
    line = lines.get(depth, Line()).learned(x, y, at_s, steep=steep, share=share)
    return {**lines, depth: line}
