"""The prediction part: how well times are foretold, and what choosing by them costs.  Replays traces.

For each attempt in turn: predict, then compare, then learn.  Regret is what all calls took together at the
steps that were chosen, beyond what they would have taken at the best step of each.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable

from msgspec import Struct
from msgspec.structs import replace

from bench.trace import CLOUDS, Row, Trace, generated, recorded, repeated
from hybrid_router.core.backend import Load
from hybrid_router.core.step import Prediction
from hybrid_router.routing.speed import Sample, Speed, learned, predicted

TARGET_ERROR = 0.2
_LOCAL = "local/smollm2"
_CALM, _BUSY = "calm", "busy"  # recorded, with clients that read longer and shorter
_UNCOUNTED = 10  # attempts that a step learns from before its errors count
_ENDLESS_TOKENS = 1e12
_LONG_TIMES = 10  # the recorded calls over and over, at the clouds


class Errors(Struct, kw_only=True):
    """How far predictions of one step were off: medians of |predicted / actual - 1|.

    Attributes:
        known_length_error: of the total, had the answer's length been known.
        late_share: first tokens later than `first_token_p90_s`.
    """

    step: str
    said: str
    attempts_count: int
    first_token_error: float
    total_error: float
    known_length_error: float
    late_share: float


class Regret(Struct, kw_only=True):
    """What one way of choosing costs, over all calls."""

    among: str
    way: str
    total_s: float
    best_s: float
    best_share: float  # calls that got their best step


class Predictions(Struct, kw_only=True):
    """The whole part."""

    errors: list[Errors]
    regrets: list[Regret]


class Replayed(Struct, frozen=True, kw_only=True):
    """A trace's predictions, attempt by attempt; `known`: with the answer's length known."""

    rows: list[Row]
    told: list[Prediction]
    known: list[Prediction]


def measure(say: Callable[[str], None]) -> Predictions:
    """Replay the recorded trace, and its calls at made-up clouds, once and many times over."""
    say("replaying traces")
    calm, busy = recorded(_CALM), recorded(_BUSY)
    here = _replayed(calm, local=True)
    once = {cloud.name: _replayed(generated(cloud, calm.rows), local=False) for cloud in CLOUDS}
    often = {cloud.name: generated(cloud, repeated(calm.rows, _LONG_TIMES)) for cloud in CLOUDS}
    replayed = {name: _replayed(trace, local=False) for name, trace in often.items()}
    return Predictions(
        errors=[
            _errors(f"{_LOCAL}, {_CALM}", calm.said, here),
            _errors(f"{_LOCAL}, {_BUSY}", busy.said, _replayed(busy, local=True)),
            *(_errors(name, often[name].said, one) for name, one in replayed.items()),
        ],
        regrets=[
            *_regrets("the recorded model and the clouds", {_LOCAL: here, **once}),
            *_regrets("the clouds", replayed),
        ],
    )


def load_of(row: Row, parallel: int | None) -> Load:
    """How busy the model was when the attempt began."""
    return Load(
        running_count=row.running_count,
        waiting_count=row.waiting_count,
        parallel=parallel,
        ahead_tokens=row.ahead_tokens,
    )


def sample_of(row: Row, parallel: int | None) -> Sample:
    """What the attempt teaches, as `dispatch.speeds` would make it."""
    queued = parallel is not None and row.running_count >= parallel
    return Sample(
        at_s=row.at_s + row.total_s,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        first_token_s=row.first_token_s,
        total_s=row.total_s,
        depth=row.running_count + (0 if queued else 1),
        queued=queued,
        max_tokens=row.max_tokens,
        estimated_tokens=row.estimated_tokens,
        ahead_tokens=row.ahead_tokens,
    )


def _replayed(trace: Trace, *, local: bool) -> Replayed:
    """Predict each attempt when it begins, from those that had ended by then."""
    begun = sorted(trace.rows, key=lambda row: row.at_s)
    ended = sorted(trace.rows, key=lambda row: row.at_s + row.total_s, reverse=True)
    speed: Speed | None = None
    told, known = [], []
    for row in begun:
        while ended and ended[-1].at_s + ended[-1].total_s <= row.at_s:
            speed = learned(speed, sample_of(ended.pop(), trace.parallel), local=local)
        load = load_of(row, trace.parallel)
        told.append(predicted(speed, load, row.estimated_tokens, 0, row.max_tokens))
        known.append(predicted(_knowing_lengths(speed), load, row.estimated_tokens, 0, row.completion_tokens))
    return Replayed(rows=begun, told=told, known=known)


def _knowing_lengths(speed: Speed | None) -> Speed | None:
    """The same speed, but answers are expected to be as long as they may be."""
    return None if speed is None else replace(speed, answer_tokens=_ENDLESS_TOKENS)


def _errors(name: str, said: str, one: Replayed) -> Errors:
    counted = list(zip(one.rows, one.told, one.known, strict=True))[_UNCOUNTED:]
    late = [
        row.first_token_s > told.first_token_p90_s
        for row, told, _ in counted
        if told.first_token_p90_s is not None
    ]
    return Errors(
        step=name,
        said=said,
        attempts_count=len(counted),
        first_token_error=_median(_off(told.first_token_s, row.first_token_s) for row, told, _ in counted),
        total_error=_median(_off(told.total_s, row.total_s) for row, told, _ in counted),
        known_length_error=_median(_off(known.total_s, row.total_s) for row, _, known in counted),
        late_share=statistics.mean(late) if late else 0.0,
    )


def _off(told_s: float | None, actual_s: float) -> float:
    """An attempt that nothing was foretold of counts as wholly wrong."""
    return 1.0 if told_s is None else abs(told_s / actual_s - 1)


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def _regrets(among: str, replayed: dict[str, Replayed]) -> list[Regret]:
    """Choosing by prediction, by mean latency, and always the same step."""
    steps = list(replayed)
    totals = {name: [row.total_s for row in one.rows] for name, one in replayed.items()}
    foretold = {name: [told.total_s for told in one.told] for name, one in replayed.items()}
    means = {name: _means(one.rows) for name, one in replayed.items()}
    count = len(totals[steps[0]])
    ways = {
        "by prediction": [_least(foretold, at) for at in range(count)],
        "by mean latency": [_least(means, at) for at in range(count)],
        **{f"always {name}": [name] * count for name in steps},
    }
    best_s = [min(totals[name][at] for name in steps) for at in range(count)]
    return [
        _regret(among, way, [totals[name][at] for at, name in enumerate(chosen)], best_s)
        for way, chosen in ways.items()
    ]


def _regret(among: str, way: str, taken_s: list[float], best_s: list[float]) -> Regret:
    best = [taken <= least for taken, least in zip(taken_s, best_s, strict=True)]
    return Regret(
        among=among,
        way=way,
        total_s=sum(taken_s),
        best_s=sum(best_s),
        best_share=statistics.mean(best),
    )


def _means(rows: list[Row]) -> list[float | None]:
    """For each attempt, the mean latency of those that had ended by then."""
    return [
        statistics.mean(before)
        if (before := [row.total_s for row in rows if row.at_s + row.total_s <= one.at_s])
        else None
        for one in rows
    ]


def _least(times: dict[str, list[float | None]], at: int) -> str:
    """The step with the least time; the first one that has none yet, as then it is tried."""
    return min(times, key=lambda name: times[name][at] or 0.0)
