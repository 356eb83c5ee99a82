"""What is counted, told in the form that Prometheus reads.

Something is counted for every call and read once in a while, so counting is a look-up in a dictionary here,
and becomes Prometheus' form when somebody asks.  Everything happens on the event loop: there are no locks.

A label's value is a word of ours or a name from router.yaml, never what a client or a backend said: so
there are few of them, and none tells what nobody should read.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from hybrid_router.core import errors
from hybrid_router.observe.rows import AttemptLike, CallLike, UsageLike

Labels: TypeAlias = tuple[str, ...]
Read: TypeAlias = Callable[[], Mapping[Labels, float]]
Shield: TypeAlias = Callable[[str, Read], Read]

FIRST_TOKEN_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
ATTEMPT_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
UNKNOWN, OTHER = "unknown", "other"
_AT_THE_CLIENT = frozenset({"client_gone", "client_stall", "cancelled"})


class EndedLike(Protocol):
    """What is read of how a call ended, and of a request that was refused."""

    @property
    def status(self) -> int: ...
    @property
    def error(self) -> str | None: ...


class Watched(Struct, frozen=True, kw_only=True):
    """A number that is read when somebody asks for it."""

    name: str
    help: str
    labels: Labels
    read: Read
    kind: Literal["gauge", "counter"]


class Histogram:
    """How many of a kind took how long."""

    __slots__ = ("_bounds_s", "_by_labels")

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self._bounds_s = bounds_s
        self._by_labels: dict[Labels, list[float]] = {}

    def note(self, labels: Labels, seconds: float) -> None:
        """Count one."""
        counts = self._by_labels.get(labels)
        if counts is None:  # one for each bound, one above them all, and the sum
            counts = self._by_labels[labels] = [0.0] * (len(self._bounds_s) + 2)
        counts[bisect_left(self._bounds_s, seconds)] += 1
        counts[-1] += seconds

    def told(self, name: str, text: str) -> Metric:
        """All of it."""
        family = HistogramMetricFamily(name, text, labels=("backend", "model"))
        for labels, (*counts, total_s) in self._by_labels.items():
            family.add_metric(labels, buckets=list(self._cumulated(counts)), sum_value=total_s)
        return family

    def _cumulated(self, counts: Iterable[float]) -> Iterator[tuple[str, float]]:
        so_far = 0.0
        for bound, count in zip((*map(str, self._bounds_s), "+Inf"), counts, strict=True):
            so_far += count
            yield bound, so_far


class Work:
    """What models did: tokens as they counted them, and how long that took where an engine measured it."""

    def __init__(self) -> None:
        self._prompt: Counter[Labels] = Counter()
        self._answer: Counter[Labels] = Counter()
        self._drafted: Counter[Labels] = Counter()
        self._sound_s: Counter[Labels] = Counter()
        self._queue = Histogram(FIRST_TOKEN_S)
        self._prefill = Histogram(FIRST_TOKEN_S)
        self._decode = Histogram(ATTEMPT_S)

    def note(self, where: Labels, usage: UsageLike) -> None:
        """Count an answer; `where`: backend and model."""
        self._prompt[*where, "cached"] += usage.cached_tokens
        self._prompt[*where, "computed"] += max(0, usage.prompt_tokens - usage.cached_tokens)
        self._answer[where] += usage.completion_tokens
        if usage.drafted_tokens:
            self._drafted[*where, "accepted"] += usage.accepted_tokens
            self._drafted[*where, "rejected"] += max(0, usage.drafted_tokens - usage.accepted_tokens)
        if usage.sound_s:
            self._sound_s[where] += usage.sound_s  # type: ignore[assignment]  # typeshed's counters hold int
        for histogram, took_s in (
            (self._queue, usage.queue_s),
            (self._prefill, usage.prefill_s),
            (self._decode, usage.decode_s),
        ):
            if took_s is not None:
                histogram.note(where, took_s)

    def told(self) -> Iterator[Metric]:
        """All of it."""
        where = "backend", "model"
        yield _counter(
            "hybrid_router_prompt_tokens_total",
            "Tokens of answered prompts, by whether they were computed or found.",
            (*where, "source"),
            self._prompt,
        )
        yield _counter("hybrid_router_completion_tokens_total", "Tokens of answers.", where, self._answer)
        yield _counter(
            "hybrid_router_drafted_tokens_total",
            "Tokens that were guessed ahead, by whether they were right.",
            (*where, "result"),
            self._drafted,
        )
        yield _counter(
            "hybrid_router_sound_seconds_total", "Sound that was heard or made.", where, self._sound_s
        )
        yield self._queue.told("hybrid_router_queue_seconds", "How long calls waited for a place.")
        yield self._prefill.told("hybrid_router_prefill_seconds", "How long prompts were computed.")
        yield self._decode.told("hybrid_router_decode_seconds", "How long answers were written.")


class Metrics:
    """Counts calls, attempts, refusals and reloads, and watches what others count.

    Args:
        shield: makes of a watched number's reading one that cannot fail.
    """

    def __init__(self, shield: Shield = lambda name, read: read) -> None:
        self._shield = shield
        self._registry = CollectorRegistry()
        self._calls: Counter[Labels] = Counter()
        self._attempts: Counter[Labels] = Counter()
        self._refused: Counter[Labels] = Counter()
        self._reloads: Counter[Labels] = Counter({("ok",): 0, ("failed",): 0})
        self._reload_succeeded = True
        self._taken_up_s = time.time()
        self._first_token = Histogram(FIRST_TOKEN_S)
        self._whole = Histogram(ATTEMPT_S)
        self._work = Work()
        self._aliases: set[str] = set()
        self._errors = {kind.code for kind in _kinds(errors.RouterError)} | _AT_THE_CLIENT
        self._watched: dict[str, Watched] = {}
        self._registry.register(self)

    def know(self, aliases: Iterable[str]) -> None:
        """Names that router.yaml has or had; every other is `unknown`."""
        self._aliases.update(aliases)

    def call(self, call: CallLike, record: object, ended: EndedLike) -> None:
        """A call has ended.  Fits `OnCall`."""
        alias = call.alias if call.alias in self._aliases else UNKNOWN
        self._calls[alias, call.operation, str(ended.status), self._error(ended.error)] += 1

    def attempt(self, call: object, record: object, attempt: AttemptLike) -> None:
        """An attempt has ended.  Fits `dispatch.service.OnAttempt`."""
        where = attempt.backend, attempt.model
        self._attempts[*where, attempt.outcome, attempt.mode] += 1
        if attempt.first_event_s is not None:
            self._first_token.note(where, attempt.first_event_s - attempt.started_s)
        if attempt.ended_s is not None:
            self._whole.note(where, attempt.ended_s - attempt.started_s)
        if attempt.usage is not None:
            self._work.note(where, attempt.usage)

    def refused(self, refused: EndedLike) -> None:
        """A request was turned away before it was a call.  Fits `OnRefusal`."""
        self._refused[str(refused.status), self._error(refused.error)] += 1

    def reloaded(self, *, ok: bool) -> None:
        """router.yaml was taken up anew, or was not."""
        self._reloads["ok" if ok else "failed",] += 1
        self._reload_succeeded = ok
        if ok:
            self._taken_up_s = time.time()

    def _error(self, code: str | None) -> str:
        """An error's code; `none` after a whole answer.  A code that is not ours is not repeated."""
        if code is None:
            return "none"
        return code if code in self._errors else OTHER

    def watch(
        self,
        name: str,
        text: str,
        labels: Labels,
        read: Read,
        *,
        kind: Literal["gauge", "counter"] = "gauge",
    ) -> None:
        """Tell a number that somebody else keeps.

        Args:
            name: with `hybrid_router_` in front, and its unit or `_total` behind.
            text: what it means, for people.
            labels: names of its labels.
            read: called whenever somebody asks: the labels' values → the number.

        Raises:
            ValueError: there is one of this name.
        """
        if name in self._watched:
            raise ValueError(f"{name} is watched already")
        self._watched[name] = Watched(
            name=name, help=text, labels=labels, read=self._shield(name, read), kind=kind
        )

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """Everything, in the newest of Prometheus' forms that `accept` takes; and that form's media type."""
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type

    def describe(self) -> list[Metric]:
        """For the registry, which would count everything once to learn the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """For the registry: every metric as it is now."""
        yield _counter(
            "hybrid_router_calls_total",
            "Calls that have ended, as their clients saw it.",
            ("alias", "operation", "status", "error"),
            self._calls,
        )
        yield _counter(
            "hybrid_router_attempts_total",
            "Runs of a step.",
            ("backend", "model", "outcome", "mode"),
            self._attempts,
        )
        yield _counter(
            "hybrid_router_refused_total",
            "Requests that were turned away before they were calls.",
            ("status", "error"),
            self._refused,
        )
        yield self._first_token.told(
            "hybrid_router_first_token_seconds", "From an attempt's start to its first token."
        )
        yield self._whole.told("hybrid_router_attempt_seconds", "From an attempt's start to its end.")
        yield from self._work.told()
        yield from self._of_reloads()
        for watched in self._watched.values():
            family = _counter if watched.kind == "counter" else _gauge
            yield family(watched.name, watched.help, watched.labels, watched.read())

    def _of_reloads(self) -> Iterator[Metric]:
        yield _counter("hybrid_router_reloads_total", "Reloads of router.yaml.", ("result",), self._reloads)
        yield _gauge(
            "hybrid_router_reload_last_success",
            "Whether the last reload of router.yaml succeeded; 1 before the first.",
            (),
            {(): float(self._reload_succeeded)},
        )
        yield _gauge(
            "hybrid_router_reload_last_success_timestamp_seconds",
            "When the configuration that serves was taken up.",
            (),
            {(): self._taken_up_s},
        )


def _counter(name: str, text: str, labels: Labels, counts: Mapping[Labels, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family


def _gauge(name: str, text: str, labels: Labels, values: Mapping[Labels, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for labelled, value in values.items():
        family.add_metric(labelled, value)
    return family


def _kinds(kind: type[errors.RouterError]) -> Iterator[type[errors.RouterError]]:
    """An error's type and all below it."""
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)
