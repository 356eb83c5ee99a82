"""Log probabilities of tokens, from the model's own logits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hybrid_router.core.event import TokenScore
from hybrid_router.engines.task import TaskRefused

Logits: TypeAlias = NDArray[np.float32]

# JSON has no infinity.  OpenAI says this for a token that is impossible.
_IMPOSSIBLE = -9999.0
# As in `chain`: looking at the near ones first takes a tenth of the time of sorting all.
_NEAR = 10.0


class Vocabulary(Protocol):
    """What is needed of `weights.Weights`."""

    def shown_piece(self, token: int) -> bytes:
        """The bytes a token stands for, special tokens written out."""
        ...


def scored(logits: Logits, token: int, top_count: int, vocabulary: Vocabulary) -> TokenScore:
    """How likely `token` was, and the `top_count` likeliest of its place, the likeliest first.

    Tokens that are equally likely are in the order of their ids.  A negative `token` stands for no text (an
    image in the prompt): it has no probability.

    Raises:
        TaskRefused: the model computed no numbers.
    """
    if token < 0:
        return TokenScore(b"", None)
    whole = _log_sum(logits)
    top = tuple(_score(logits, other, whole, vocabulary) for other in _likeliest(logits, top_count))
    return TokenScore(vocabulary.shown_piece(token), _logprob(logits, token, whole), top)


def unscored(token: int, vocabulary: Vocabulary) -> TokenScore:
    """A token that nothing came before."""
    return TokenScore(b"" if token < 0 else vocabulary.shown_piece(token), None)


def prompt_scores(
    rows: Iterable[Logits], tokens: Sequence[int], top_count: int, vocabulary: Vocabulary
) -> list[TokenScore]:
    """A score for each of a prompt's tokens.

    `rows` are the logits behind each token, in order; those behind the last one are not looked at and may be
    missing.
    """
    first = [unscored(token, vocabulary) for token in tokens[:1]]
    return first + [
        scored(logits, token, top_count, vocabulary) for token, logits in zip(tokens[1:], rows, strict=False)
    ]


def no_numbers() -> TaskRefused:
    """What a model says that computed infinities, or what is not a number."""
    return TaskRefused(
        "backend_error", "the model computed no numbers; its file may be damaged, or the GPU at fault"
    )


def _log_sum(logits: Logits) -> float:
    """The logarithm of the sum of all exponentials; the greatest is taken out, so nothing overflows."""
    greatest = logits.max()
    if not np.isfinite(greatest):
        raise no_numbers()
    return float(greatest) + float(np.log(np.exp(logits - greatest).sum(dtype=np.float64)))


def _likeliest(logits: Logits, count: int) -> list[int]:
    """The ids of the `count` greatest logits, the greatest first."""
    if not count:
        return []
    ids = np.flatnonzero(logits > logits.max() - _NEAR)
    if len(ids) < count:
        ids = np.argpartition(-logits, min(count, len(logits)) - 1)
        border = logits[ids[min(count, len(logits)) - 1]]
        ids = np.flatnonzero(logits >= border)
    order = np.argsort(-logits[ids], kind="stable")  # ids ascend, so equal ones stay in their order
    return [int(token) for token in ids[order[:count]]]


def _score(logits: Logits, token: int, whole: float, vocabulary: Vocabulary) -> TokenScore:
    return TokenScore(vocabulary.shown_piece(token), _logprob(logits, token, whole))


def _logprob(logits: Logits, token: int, whole: float) -> float:
    """At most 0, whatever the rounding."""
    return max(_IMPOSSIBLE, min(0.0, float(logits[token]) - whole))
