"""Who guesses the next tokens of the sequences that write."""

from __future__ import annotations

from collections.abc import Sequence as Several

from hybrid_router.engines.llama.drafting.lookup import looked_up
from hybrid_router.engines.llama.sequence import Sequence
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.task import EngineFailed, Settings


class Drafter:
    """Guesses at most `most_count` tokens a step for each sequence."""

    def __init__(self, settings: Settings, weights: Weights) -> None:
        """Open what guesses.

        Raises:
            EngineFailed: a draft model is configured, which this engine cannot use.
        """
        if settings.drafting.model_path is not None:
            raise EngineFailed(
                f"{settings.path}: `drafting.weights` cannot be used yet; leave it out to look up"
            )
        # Where memory cannot be shortened, wrong guesses could not be taken back.
        self.most_count = 0 if weights.whole_only else settings.drafting.most_tokens

    def guess(self, writing: Several[Sequence]) -> None:
        """Set the drafts of sequences that write.  Each still has none."""
        for sequence in writing:
            most_count = min(self.most_count, sequence.limit_count - sequence.generated_count - 1)
            if most_count > 0 and not sequence.forced:
                sequence.drafts = looked_up(sequence.tokens, most_count)

    def forget(self, sequence: Sequence) -> None:
        """A sequence is over."""

    def close(self) -> None:
        """Free what guesses."""
