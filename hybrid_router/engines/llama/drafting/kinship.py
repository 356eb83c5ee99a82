"""Whether a draft model speaks a model's language: the same tokens under the same numbers.

Source: `common_speculative_are_compatible` of llama.cpp as llama-cpp-python 0.3.36 wraps it, which lets the
first five tokens and a few missing ones at the end differ; here only the end may.
"""

from __future__ import annotations

import llama_cpp as llama

from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.task import EngineFailed


def check_kin(draft: Weights, model: Weights) -> None:
    """Make sure that `draft` can guess for `model`.

    Raises:
        EngineFailed: it cannot; names both files and the first difference.
    """
    if draft.whole_only:
        raise EngineFailed(
            f"{draft.path}: cannot draft for {model.path}: wrong guesses could not be taken back out of its "
            "memory (recurrent layers); choose another `drafting.weights`"
        )
    difference = _first_difference(draft, model)
    if difference:
        raise EngineFailed(
            f"{draft.path}: cannot draft for {model.path}: {difference}; "
            "choose `drafting.weights` of the same family"
        )


def _first_difference(draft: Weights, model: Weights) -> str:
    """What tells the vocabularies apart, as far as both go; empty: nothing."""
    kinds = [llama.llama_vocab_type(one.vocab) for one in (draft, model)]
    if kinds[0] != kinds[1]:
        return "their vocabularies are of different kinds"
    for token in range(min(draft.vocabulary_count, model.vocabulary_count)):
        theirs, ours = (llama.llama_vocab_get_text(one.vocab, token) for one in (draft, model))
        if theirs != ours:
            return f"token {token} is {_quoted(theirs)}, the model's is {_quoted(ours)}"
    return ""


def _quoted(text: bytes | None) -> str:
    return repr((text or b"").decode("utf-8", "replace")[:40])
