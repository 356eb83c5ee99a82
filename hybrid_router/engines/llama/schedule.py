"""Who computes what in the next step, and who may begin.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

# While others write, a step may take this many times what it takes without a prompt to compute.
_SLOWDOWN = 2.8
# And never longer than this, alone or beside others: a cancellation waits for the step's end.
_LONGEST_STEP_S, _LONGEST_SHARED_STEP_S = 1.0, 0.5
# llama.cpp's attention takes fewer tokens than this one by one, which is slower for each (ggml, CPU).
_TILE_TOKENS = 64
# Deep in a long prompt a token costs several of the first ones; fewer would never come to an end.
_FEWEST_TOKENS = 4
_MEMORY = 0.2  # how much the newest measurement counts
_ODD = 2.0  # one that is so many times what was expected says more of the machine than of the model


class Member(Protocol):
    """What is needed of `sequence.Sequence`."""

    principal: str

    @property
    def decoding(self) -> bool:
        """Whether it writes its answer already."""
        ...

    @property
    def missing_count(self) -> int:
        """Tokens of its prompt that can be computed now."""
        ...


M = TypeVar("M", bound=Member)


@dataclass
class Pace:
    """How long steps take, learned from those that were made.

    Attributes:
        quiet_s: a step without any prompt, for each number of sequences that write.
        token_s: a prompt's token on top of that.
        alone_s: a prompt's token where nobody writes: large pieces cost less for each.
    """

    quiet_s: dict[int, float]
    token_s: float | None = None
    alone_s: float | None = None

    def note(self, took_s: float, writers_count: int, prompt_count: int) -> None:
        """Learn from a step of so many sequences that write and so many tokens of prompts."""
        if not prompt_count:
            self.quiet_s[writers_count] = _mixed(self.quiet_s.get(writers_count), took_s)
        elif prompt_count < _FEWEST_TOKENS:
            return
        elif writers_count:
            more_s = max(0.0, took_s - self.expected_s(writers_count))
            self.token_s = _mixed(self.token_s, more_s / prompt_count)
        else:
            self.alone_s = _mixed(self.alone_s, took_s / prompt_count)

    def expected_s(self, writers_count: int) -> float:
        """Seconds that a step without any prompt should take; 0 while nothing is known."""
        if not writers_count or not self.quiet_s:
            return 0.0
        nearest = min(self.quiet_s, key=lambda count: abs(count - writers_count))
        return self.quiet_s[nearest]

    def prompt_tokens(self, writers_count: int, most: int) -> int:
        """How many tokens of prompts the next step may compute, at most `most`.

        So a long prompt slows running answers by a bounded factor, whatever machine and model this is.
        """
        if not writers_count:
            return min(most, max(_TILE_TOKENS, int(_LONGEST_STEP_S / self.alone_s))) if self.alone_s else most
        if not self.token_s:
            return min(most, _TILE_TOKENS)
        room_s = (_SLOWDOWN - 1) * (self.expected_s(writers_count) or self.token_s)
        room_s = min(room_s, _LONGEST_SHARED_STEP_S)
        return max(_FEWEST_TOKENS, min(most, int(room_s / self.token_s)))


def _mixed(before: float | None, now: float) -> float:
    """The old and the new; not much of one that is odd, as when another program had the machine."""
    return now if not before else before + _MEMORY * (min(now, _ODD * before) - before)


def divided(prefilling: Sequence[Member], prompt_count: int) -> list[int]:
    """How many of `prompt_count` tokens each gets.

    Principals get equal parts; one principal's prompts are computed in order of arrival.  What a principal
    does not need goes to the others.
    """
    needs: dict[str, int] = {}
    for member in prefilling:
        needs[member.principal] = needs.get(member.principal, 0) + member.missing_count
    parts = _parts(needs, prompt_count)
    counts = []
    for member in prefilling:
        count = min(member.missing_count, parts[member.principal])
        parts[member.principal] -= count
        counts.append(count)
    return counts


def _parts(needs: Mapping[str, int], left: int) -> dict[str, int]:
    """`left` in equal parts, as far as each is needed."""
    parts = {}
    for remaining, name in zip(
        range(len(needs), 0, -1), sorted(needs, key=lambda name: needs[name]), strict=True
    ):
        parts[name] = min(needs[name], -(-left // remaining))
        left -= parts[name]
    return parts


def catch_up(principal: str, present: Iterable[Member], served_count: Counter[str]) -> None:
    """Have a principal who comes while others are there count as served as the least of them.

    Else whoever was away would go before them until he has had as much as they had all day.
    """
    others = {member.principal for member in present}
    if others and principal not in others:
        least = min(served_count[name] for name in others)
        served_count[principal] = max(served_count[principal], least)


def in_line(waiting: Iterable[M], running: Iterable[Member], served_count: Mapping[str, int]) -> Iterator[M]:
    """Who may begin, first come first served within a principal.

    The principal with the fewest running sequences is next, of those the one that was served least.
    """
    queues: dict[str, list[M]] = {}
    for member in waiting:
        queues.setdefault(member.principal, []).append(member)
    busy = Counter(member.principal for member in running)
    while queues:
        name = min(queues, key=lambda name: (busy[name], served_count.get(name, 0)))
        yield queues[name].pop(0)
        busy[name] += 1
        if not queues[name]:
            del queues[name]
