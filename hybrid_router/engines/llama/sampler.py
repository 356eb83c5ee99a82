"""From sampling settings to llama.cpp's sampler chain."""

from __future__ import annotations

from collections.abc import Sequence

import llama_cpp as llama

from hybrid_router.core.call import Sampling
from hybrid_router.engines.llama.context import Context
from hybrid_router.engines.task import TaskRefused

# llama.cpp's own defaults where the client says nothing (common/common.h): small models need the cuts.
_TEMPERATURE, _TOP_K, _TOP_P, _MIN_P = 0.8, 40, 0.95, 0.05
_RANDOM_SEED = 0xFFFFFFFF
_FORBIDDEN = -100  # as OpenAI defines it


class Sampler:
    """A chain of one sequence.  `close` frees it."""

    def __init__(
        self, sampling: Sampling, index: int, vocabulary_count: int, written: Sequence[int] = ()
    ) -> None:
        """Build the chain for choice `index`; its seed is the call's plus the index.

        `written` are the answer's tokens so far: penalties count them.

        Raises:
            TaskRefused: `logit_bias` names a token the model does not have.
        """
        biases = _biases(sampling, vocabulary_count)
        self.chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        if biases:
            array = (llama.llama_logit_bias * len(biases))(*biases)  # copied by the library
            self._add(llama.llama_sampler_init_logit_bias(vocabulary_count, len(biases), array))
        if _penalised(sampling):
            self._add(_penalties(sampling, vocabulary_count))
            for token in written:
                llama.llama_sampler_accept(self.chain, token)
        if sampling.temperature == 0:
            self._add(llama.llama_sampler_init_greedy())
            return
        self._add(llama.llama_sampler_init_top_k(_or(sampling.top_k, _TOP_K)))
        self._add(llama.llama_sampler_init_top_p(_or(sampling.top_p, _TOP_P), 1))
        self._add(llama.llama_sampler_init_min_p(_or(sampling.min_p, _MIN_P), 1))
        self._add(llama.llama_sampler_init_temp(_or(sampling.temperature, _TEMPERATURE)))
        self._add(llama.llama_sampler_init_dist(_seed(sampling.seed, index)))

    def _add(self, sampler: object) -> None:
        llama.llama_sampler_chain_add(self.chain, sampler)

    def choose(self, context: Context, entry: int) -> int:
        """The next token, from the logits of the batch's entry `entry`."""
        return int(llama.llama_sampler_sample(self.chain, context.handle, entry))

    def close(self) -> None:
        """Free the chain and what was added to it.  Closing twice is fine."""
        if self.chain:
            llama.llama_sampler_free(self.chain)
            self.chain = None


def _or(given: float | None, default: float) -> float:
    return default if given is None else given


def _seed(seed: int | None, index: int) -> int:
    """A 32-bit seed; the value that means "random" to the library is stepped over."""
    if seed is None:
        return _RANDOM_SEED
    return (seed + index) % _RANDOM_SEED


def _penalised(sampling: Sampling) -> bool:
    return bool(sampling.frequency_penalty or sampling.presence_penalty) or sampling.repeat_penalty not in (
        None,
        1,
    )


def _penalties(sampling: Sampling, vocabulary_count: int) -> object:
    """Penalties over the whole answer so far, as OpenAI defines them (the prompt is not accepted)."""
    return llama.llama_sampler_init_penalties(
        vocabulary_count,
        4096,
        _or(sampling.repeat_penalty, 1.0),
        _or(sampling.frequency_penalty, 0.0),
        _or(sampling.presence_penalty, 0.0),
    )


def _biases(sampling: Sampling, vocabulary_count: int) -> list[object]:
    """The library's form of `logit_bias`."""
    unknown = [token for token in sampling.logit_bias if not 0 <= token < vocabulary_count]
    if unknown:
        raise TaskRefused(
            "invalid_request_error",
            f"logit_bias names token {unknown[0]}; this model has {vocabulary_count} tokens",
            by_call=True,
        )
    return [
        llama.llama_logit_bias(token=token, bias=float("-inf") if bias <= _FORBIDDEN else bias)
        for token, bias in sampling.logit_bias.items()
    ]
