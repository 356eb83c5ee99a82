"""Who guesses the next tokens of the sequences that write."""

from __future__ import annotations

from collections.abc import Sequence as Several

from hybrid_router.engines.llama.drafting.lookup import looked_up
from hybrid_router.engines.llama.drafting.model import DraftModel
from hybrid_router.engines.llama.fit import Fit
from hybrid_router.engines.llama.seams import Constraint
from hybrid_router.engines.llama.sequence import Sequence
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.engines.task import EngineFailed

_MOST_FORCED_COUNT = 8
_FAILURES = (ValueError, RuntimeError, LookupError, TypeError)  # what a foreign library's fault looks like


class Drafter:
    """Guesses at most `most_count` tokens a step for each sequence.

    First what the answer's form leaves no choice about, then what followed the last tokens before, then what
    a draft model would say.
    """

    def __init__(self, settings: LlamaSettings, weights: Weights, found: Fit) -> None:
        """Open what guesses.

        Raises:
            EngineFailed: a draft model is configured that cannot be used, or for a model that cannot use one.
        """
        drafting = settings.drafting
        # Where memory cannot be shortened, wrong guesses could not be taken back.
        self._free_count = 0 if weights.whole_only else drafting.most_tokens
        self._forced_count = 0 if weights.whole_only else _MOST_FORCED_COUNT
        self._model: DraftModel | None = None
        if drafting.model_path is not None:
            if weights.whole_only:
                raise EngineFailed(
                    f"{settings.path}: cannot use `drafting.weights`: guesses could not be taken back out of "
                    "its memory (recurrent layers); leave it out"
                )
            self._model = DraftModel(drafting.model_path, settings, weights, found)

    @property
    def most_count(self) -> int:
        """Guesses of one sequence in one step."""
        return max(self._free_count, self._forced_count)

    def guess(self, writing: Several[Sequence]) -> None:
        """Set the drafts of sequences that write.  Each still has none."""
        unguessed: list[tuple[Sequence, int]] = []
        for sequence in writing:
            room_count = sequence.limit_count - sequence.generated_count - 1
            if room_count <= 0 or sequence.forced:
                continue
            if self._forced_count and sequence.constraint is not None:
                sequence.drafts = _forced(sequence.constraint)[: min(room_count, self._forced_count)]
            if not sequence.drafts and self._free_count:
                most_count = min(self._free_count, room_count)
                sequence.drafts = looked_up(sequence.tokens, most_count)
                if not sequence.drafts:
                    unguessed.append((sequence, most_count))
        if self._model is not None and unguessed:
            self._model.guess(unguessed)

    def forget(self, sequence: Sequence) -> None:
        """A sequence is over."""
        if self._model is not None:
            self._model.forget(sequence)

    def close(self) -> None:
        """Free what guesses."""
        if self._model is not None:
            self._model.close()


def _forced(constraint: Constraint) -> list[int]:
    """What must come next.  Only guesses: the model may write the same text in other tokens."""
    try:
        return constraint.forced()
    except _FAILURES:  # what is wrong with the form, choosing the next token tells
        return []
