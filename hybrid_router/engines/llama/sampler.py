"""Which token comes next: the model's logits, what the call wants of them, what the answer's form allows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hybrid_router.core.call import Sampling
from hybrid_router.core.event import TokenScore
from hybrid_router.engines.llama import chain
from hybrid_router.engines.llama.chain import Chain, Past, Prototypes
from hybrid_router.engines.llama.context import Context, Logits
from hybrid_router.engines.llama.scores import Vocabulary, no_numbers, scored
from hybrid_router.engines.llama.seams import Constraint
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.task import TaskRefused

_FORBIDDEN = -100  # as OpenAI defines it
_MOST_BIAS = 1e6
_FAILURES = (ValueError, RuntimeError, LookupError, TypeError)  # what a foreign library's fault looks like


class Sampler:
    """Chooses the tokens of one sequence.  `close` frees what the library holds."""

    def __init__(
        self,
        sampling: Sampling,
        index: int,
        weights: Weights,
        written: Sequence[int] = (),
        constraint: Constraint | None = None,
        *,
        prompt: Sequence[int] = (),
        prototypes: Prototypes | None = None,
        scores_allowed: bool = False,
    ) -> None:
        """Get ready for choice `index`; its seed is the call's plus the index.

        Args:
            written: the answer's tokens so far: penalties count them.  `constraint` has taken them already.
            prompt: what `repeat_penalty` and DRY see before the answer.
            prototypes: the model's; without, what is dear to make is made anew.
            scores_allowed: scores are shares of what may come, not of all that the model knows.

        Raises:
            TaskRefused: a setting is impossible, or `logit_bias` names a token the model does not have.
        """
        chain.check(sampling)
        self._weights = weights
        self._constraint = constraint
        self._scores_allowed = scores_allowed
        self._chain: Chain | None = None
        lent = prototypes or Prototypes(weights)
        try:
            self._biases = _biases(sampling, weights, lent)
            if not chain.always_likeliest(sampling):
                self._chain = Chain(sampling, index, weights, Past(prompt, written), lent)
        finally:
            if prototypes is None:
                lent.close()

    def choose(self, context: Context, entry: int) -> int:
        """The next token, from the logits of the last batch's entry `entry`, which stay as they are.

        Raises:
            TaskRefused: no token may come, or the model's numbers are none.
        """
        return self._choose(context.logits(entry))

    def choose_scored(
        self, context: Context, entry: int, top_count: int, vocabulary: Vocabulary
    ) -> tuple[int, TokenScore]:
        """As `choose`, with how likely the model itself found the token and `top_count` others."""
        logits = context.logits(entry)
        if self._scores_allowed:
            logits = self._allowed(logits)  # before the choice: then the form is a token further
        token = self._choose(context.logits(entry))
        return token, scored(logits, token, top_count, vocabulary)

    def accept(self, token: int) -> None:
        """Take a token that comes next without having been chosen."""
        if self._chain is not None:
            self._chain.accept(token)
        if self._constraint is not None and not self._weights.ends(token):
            try:
                self._constraint.accept(token)
            except _FAILURES as error:
                raise _failed(error) from error

    def _choose(self, logits: Logits) -> int:
        allowed = self._allowed(logits)
        likeliest = int(allowed.argmax())  # of numbers that are none, the first
        if not np.isfinite(allowed[likeliest]):
            raise self._dead_end(logits)
        token = likeliest if self._chain is None else self._chain.pick(allowed)
        self.accept(token)
        return token

    def _allowed(self, logits: Logits) -> Logits:
        """The logits with biases and without what may not come; a copy, as other choices may need them."""
        if self._biases is None and self._constraint is None:
            return logits
        allowed = logits.copy()
        if self._biases is not None:
            tokens, values = self._biases
            allowed[tokens] += values
        if self._constraint is not None:
            try:
                self._constraint.restrict(allowed)
            except _FAILURES as error:
                raise _failed(error) from error
        return allowed

    def _dead_end(self, logits: Logits) -> TaskRefused:
        """Why there is no greatest number."""
        if not np.isfinite(logits.max()):
            return no_numbers()
        if self._biases is None:
            return TaskRefused("backend_error", "the answer's form allows no token here")
        return chain.refused("logit_bias or ignore_eos forbids every token that may come next")

    def close(self) -> None:
        """Free the chain.  Closing twice is fine."""
        if self._chain is not None:
            self._chain.close()


def _failed(error: Exception) -> TaskRefused:
    return TaskRefused("backend_error", f"the answer's form could not be kept ({error})"[:500])


def _biases(
    sampling: Sampling, weights: Weights, prototypes: Prototypes
) -> tuple[NDArray[np.int64], Logits] | None:
    """Tokens and what is added to their logits."""
    given = dict(sampling.logit_bias)
    count = weights.vocabulary_count
    unknown = next((token for token in given if not 0 <= token < count), None)
    if unknown is not None:
        raise chain.refused(f"logit_bias names token {unknown}; this model has {count} tokens")
    if sampling.ignore_eos:
        given |= dict.fromkeys(prototypes.ending_tokens, float("-inf"))
    if not given:
        return None
    values = [-np.inf if bias <= _FORBIDDEN else min(bias, _MOST_BIAS) for bias in given.values()]
    return np.array(list(given), np.int64), np.array(values, np.float32)
