"""Whole answers, kept for whoever asked first: the same question of the same principal, for a while."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import msgspec
from msgspec import Struct

from hybrid_router.core.errors import CallRefused

MOST_BYTES = 64 * 2**20
MOST_ANSWER_BYTES = 25 * 2**20
MOST_ANSWERS = 10_000  # small ones take more than their content


class Kept(Struct, frozen=True, kw_only=True):
    """An answer.

    Attributes:
        until_s: on the caller's clock.
        model, tokens_in, tokens_out: for the log.
    """

    principal: str
    content: bytes
    media_type: str
    until_s: float
    model: str = ""
    tokens_in: int = 0
    tokens_out: int = 0


def key(principal: str, provider: str, endpoint: str, query: Any, custom: str | None = None) -> bytes:
    """What an answer is found by: whoever asks, whom, and what, or a word of the caller's own for what.

    The order of a query's properties does not matter.  Principals never meet, nor do providers.

    Raises:
        CallRefused: the question is nested too deeply to be written.
    """
    asked = [endpoint, query] if custom is None else custom
    parts = [principal, provider, "asked" if custom is None else "named", asked]
    try:
        written = msgspec.json.encode(parts, order="sorted")
    except RecursionError:
        raise CallRefused("the body is nested too deeply") from None
    return hashlib.sha256(written).digest()


class Cache:
    """The answers of one gateway.  When it is full, whoever has most in it loses what is oldest."""

    def __init__(
        self,
        most_bytes: int = MOST_BYTES,
        most_answer_bytes: int = MOST_ANSWER_BYTES,
        most_count: int = MOST_ANSWERS,
    ) -> None:
        self._most_bytes = most_bytes
        self._most_answer_bytes = min(most_answer_bytes, most_bytes)
        self._most_count = most_count
        self._kept: dict[bytes, Kept] = {}  # the one that was found longest ago first
        self._taken_bytes: Counter[str] = Counter()  # by principal, as the next
        self._taken_count: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many answers are kept, also those whose time is over until somebody sweeps."""
        return len(self._kept)

    @property
    def taken_bytes(self) -> int:
        """What all answers take."""
        return self._taken_bytes.total()

    def find(self, name: bytes, now_s: float) -> Kept | None:
        """An answer whose time is not over."""
        found = self._kept.get(name)
        if found is None:
            return None
        if found.until_s <= now_s:
            self._drop(name)
            return None
        self._kept[name] = self._kept.pop(name)
        return found

    def put(self, name: bytes, answer: Kept) -> bool:
        """Keep an answer; False: it is too large."""
        size_bytes = len(answer.content)
        if size_bytes > self._most_answer_bytes:
            return False
        if name in self._kept:
            self._drop(name)
        while self.taken_bytes + size_bytes > self._most_bytes:
            self._drop(self._longest_ago_of_most(self._taken_bytes))
        while len(self._kept) >= self._most_count:
            self._drop(self._longest_ago_of_most(self._taken_count))
        self._kept[name] = answer
        self._taken_bytes[answer.principal] += size_bytes
        self._taken_count[answer.principal] += 1
        return True

    def sweep(self, now_s: float) -> None:
        """Forget those whose time is over."""
        for name in [name for name, kept in self._kept.items() if kept.until_s <= now_s]:
            self._drop(name)

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
        self._taken_bytes.clear()
        self._taken_count.clear()

    def _longest_ago_of_most(self, taken: Counter[str]) -> bytes:
        principal, _ = taken.most_common(1)[0]
        return next(name for name, kept in self._kept.items() if kept.principal == principal)

    def _drop(self, name: bytes) -> None:
        dropped = self._kept.pop(name)
        self._taken_bytes[dropped.principal] -= len(dropped.content)
        self._taken_count[dropped.principal] -= 1
        if not self._taken_count[dropped.principal]:
            del self._taken_bytes[dropped.principal], self._taken_count[dropped.principal]
