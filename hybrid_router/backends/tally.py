"""Usage of a stream, whichever way the model tells it.  Nothing is counted here, only read."""

from __future__ import annotations

from collections.abc import Sequence

from hybrid_router.backends.chunks import Counts
from hybrid_router.core.event import Batch, Usage


class Tally:
    """The usage of one answer.

    A line of its own, with no choices, tells the whole.  Without one, the chunks tell it: cumulative, so
    that the last one counts, or each what it adds itself, which shows in a prompt of 0 after a prompt.
    """

    def __init__(self) -> None:
        self._total: Counts | None = None
        self._told: list[Counts] = []  # read at the end only: a stream brings one with every token
        self._adds = False

    @property
    def usage(self) -> Usage | None:
        """What is known so far; None if nothing was told."""
        if self._total is not None:
            return _usage(self._total)
        counted = self._told if self._adds else self._told[-1:]
        return total([_usage(counts) for counts in counted])

    def take(self, counts: Counts, *, alone: bool) -> None:
        """Note the usage of a chunk; `alone`: of a line without choices."""
        if not (counts.prompt_tokens or counts.completion_tokens):
            return
        if alone and counts.prompt_tokens:
            self._total = counts
            return
        if self._told and not counts.prompt_tokens:
            self._adds = True
        self._told.append(counts)


def added(one: Usage | None, other: Usage) -> Usage:
    """Both together."""
    if one is None:
        return other
    known = [usage.neurons for usage in (one, other) if usage.neurons is not None]
    return Usage(
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        cached_tokens=one.cached_tokens + other.cached_tokens,
        neurons=sum(known) if known else None,
        sound_s=one.sound_s + other.sound_s,
    )


def parted(batch: Batch) -> tuple[Batch, Usage | None]:
    """`batch` without its usage, and that, if it holds one."""
    usage = next((event for event in batch if isinstance(event, Usage)), None)
    if usage is None:
        return batch, None
    return [event for event in batch if not isinstance(event, Usage)], usage


def _usage(counts: Counts) -> Usage:
    details = counts.prompt_tokens_details
    return Usage(
        prompt_tokens=max(0, counts.prompt_tokens or 0),
        completion_tokens=max(0, counts.completion_tokens or 0),
        cached_tokens=max(0, (details.cached_tokens or 0) if details else 0),
        neurons=counts.neurons,
    )


def total(told: Sequence[Usage | None]) -> Usage | None:
    """The usage of all choices; None if one of them did not tell its own."""
    whole: Usage | None = None
    for usage in told:
        if usage is None:
            return None
        whole = added(whole, usage)
    return whole
