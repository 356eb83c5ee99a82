"""A text on its way, and how many share a forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(eq=False, frozen=True)
class Passage:
    """One text, or one document behind its query, as token ids.

    `types`: which of a pair each token is of, where the model wants to know.  `prompt_count` tokens of a
    prompt come first and are left out of the vector.  `truncated`: it was longer.
    """

    task_id: int
    index: int
    tokens: list[int]
    types: list[int] | None = None
    prompt_count: int = 0
    truncated: bool = False

    @property
    def length(self) -> int:
        """Tokens."""
        return len(self.tokens)


def passes(passages: Iterable[Passage], batch_tokens: int, cost_tokens: int) -> Iterator[list[Passage]]:
    """Divide what is to be computed among forward passes, the longest first.

    A pass takes the next shorter text as long as the padding costs less than another pass would, which is as
    dear as `cost_tokens`, and it all holds at most `batch_tokens`, padding included; a longer text has a pass
    for itself.
    """
    current: list[Passage] = []
    wasted_count = 0
    for passage in sorted(passages, key=lambda one: (one.prompt_count, one.length), reverse=True):
        if current:
            longest = current[0]
            wasted_count += longest.length - passage.length
            if (
                wasted_count > cost_tokens
                or (len(current) + 1) * longest.length > batch_tokens
                or passage.prompt_count != longest.prompt_count
            ):
                yield current
                current, wasted_count = [], 0
        current.append(passage)
    if current:
        yield current
