"""What the engine computes with, and how that fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hybrid_router.engines.encoders.passage import Passage
from hybrid_router.engines.tally import Found


class ComputeFailed(Exception):
    """A pass could not be computed; the engine still works."""


class Model(Protocol):
    """A model of texts.  `context`: tokens of one; `width` of its vectors, 0 if it ranks.

    `pass_cost_tokens`: what one more pass costs, in tokens that could be computed instead.
    """

    description: str
    context: int
    width: int
    vocabulary_count: int
    pass_cost_tokens: int

    def compute(self, passages: Sequence[Passage]) -> list[Found | None]:
        """One forward pass; None where what comes of a text is no number.

        Raises:
            ComputeFailed: nothing came of it.
            EngineFailed: nothing will ever again.
        """
        ...
