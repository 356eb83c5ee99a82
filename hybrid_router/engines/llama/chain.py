"""From sampling settings to llama.cpp's samplers.

Order and defaults are llama.cpp's own (common/sampling.cpp, common/common.h): small models need the cuts.
What differs, and why:

- Presence and frequency penalties count the answer alone, all of it, as OpenAI defines them; `repeat_penalty`
  and DRY look back into the prompt too, as llama.cpp does.  `repeat_last_n` bounds all three.
- Mirostat replaces the cuts but not the penalties: what a client asks for is done.
"""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, TypeAlias

import llama_cpp as llama
import numpy as np
from numpy.typing import NDArray

from hybrid_router.core.call import Sampling
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.task import TaskRefused

Logits: TypeAlias = NDArray[np.float32]
Ids: TypeAlias = NDArray[np.int64]

_TEMPERATURE, _TOP_K, _TOP_P, _MIN_P = 0.8, 40, 0.95, 0.05
_XTC_THRESHOLD, _XTC_NEVER = 0.1, 0.5
_MIROSTAT_TAU, _MIROSTAT_ETA, _MIROSTAT_M = 5.0, 0.1, 100
_REPEAT_LAST_COUNT = _DRY_LAST_COUNT = 64
_DRY_BASE, _DRY_LENGTH, _DRY_BREAKERS = 1.75, 2, ("\n", ":", '"', "*")
_RANDOM_SEED = 0xFFFFFFFF
# Dividing by less would leave the range of 32-bit floats.
_COLDEST = 1e-6
# The typical cut takes logarithms: a probability that underflows to 0 would make them NaN.
_SURELY_ABOVE_ZERO = 1e-35
_LARGEST = 1e6
_NUMBERS = (
    "temperature", "top_p", "min_p", "typical_p", "presence_penalty", "frequency_penalty", "repeat_penalty",
    "dry_multiplier", "dry_base", "xtc_probability", "xtc_threshold", "mirostat_tau", "mirostat_eta",
)  # fmt: skip
# The library walks its whole vocabulary for each: 3.5 ms with 49,152 tokens.
_MOST_BREAKERS, _BREAKER_BYTES = 32, 40
_MOST_PROTOTYPES = 8
# The likeliest tokens are looked for among those that are at most so much less likely than the first
# (logarithm): in nearly every place there are enough, and no sort of the vocabulary is needed.
_NEAR = 10.0

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
_CANDIDATES_P = ctypes.POINTER(llama.llama_token_data)


class Prototypes:
    """What is dear to make and the same for many samplers of one model.  `close` frees it."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._dry: OrderedDict[tuple[object, ...], Any] = OrderedDict()

    @cached_property
    def ending_tokens(self) -> tuple[int, ...]:
        """Every token that ends an answer.  The library must be asked for each: 36 ms with 49,152."""
        return tuple(filter(self._weights.ends, range(self._weights.vocabulary_count)))

    def dry(self, sampling: Sampling) -> Any:
        """A DRY sampler with no history; the caller owns it."""
        weights = self._weights
        breakers = _DRY_BREAKERS if sampling.dry_sequence_breakers is None else sampling.dry_sequence_breakers
        numbers = (
            _or(sampling.dry_multiplier, 0.0),
            _or(sampling.dry_base, _DRY_BASE),
            max(0, min(_or(sampling.dry_allowed_length, _DRY_LENGTH), weights.trained_context)),
            _window(sampling.dry_penalty_last_n, _DRY_LAST_COUNT, weights),
        )
        key = (*numbers, breakers)
        if key not in self._dry:
            texts = [breaker.encode("utf-8", "replace") for breaker in breakers]
            array = (ctypes.c_char_p * len(texts))(*texts)
            self._dry[key] = llama.llama_sampler_init_dry(weights.vocab, *numbers, array, len(texts))
            if len(self._dry) > _MOST_PROTOTYPES:
                llama.llama_sampler_free(self._dry.popitem(last=False)[1])
        self._dry.move_to_end(key)
        return llama.llama_sampler_clone(self._dry[key])

    def close(self) -> None:
        """Free the library's samplers; those that were given out live on."""
        while self._dry:
            llama.llama_sampler_free(self._dry.popitem()[1])


@dataclass(frozen=True)
class Past:
    """Tokens that came before: the end of the prompt, and the beginning of the answer."""

    prompt: Sequence[int] = ()
    written: Sequence[int] = ()

    def last(self, count: int) -> list[int]:
        """The last `count` of both.  What is no text, an image in the prompt, is a negative number."""
        both = islice((t for part in (self.written, self.prompt) for t in reversed(part) if t >= 0), count)
        return list(both)[::-1]


class Chain:
    """The library's samplers of one sequence.  `close` frees them."""

    def __init__(
        self, sampling: Sampling, index: int, weights: Weights, past: Past, prototypes: Prototypes
    ) -> None:
        """Build them for choice `index`; its seed is the call's plus the index."""
        self._handle = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        self._past_count = self._most_past_count = 0  # tokens that may be penalised; at most
        for sampler, window, tokens in _remembering(sampling, weights, past, prototypes):
            for token in tokens:
                llama.llama_sampler_accept(sampler, token)
            self._past_count += len(tokens)
            self._most_past_count += window
            llama.llama_sampler_chain_add(self._handle, sampler)
        for sampler in _choosing(sampling, weights.vocabulary_count, _seed(sampling.seed, index)):
            llama.llama_sampler_chain_add(self._handle, sampler)
        self._enough_count = _enough(sampling)

    def pick(self, logits: Logits) -> int:
        """Choose a token; the greatest of `logits` is a number, minus infinity forbids a token."""
        ids = self._candidates(logits)
        found = np.empty(len(ids), _CANDIDATE)
        found["id"], found["logit"] = ids, logits[ids]
        array = llama.llama_token_data_array(
            data=found.ctypes.data_as(_CANDIDATES_P), size=len(ids), selected=-1, sorted=False
        )
        llama.llama_sampler_apply(self._handle, ctypes.byref(array))
        if array.selected < 0:
            raise TaskRefused("backend_error", "the samplers chose no token")
        return int(array.data[array.selected].id)

    def _candidates(self, logits: Logits) -> Ids:
        """The tokens that may be chosen: the library is quicker, and its logarithms right, without others."""
        if self._enough_count is not None:
            near = np.flatnonzero(logits > logits.max() - _NEAR)
            # Penalties move no more than these away; the others stay before whatever is not near.
            if len(near) >= self._enough_count + min(self._past_count, self._most_past_count):
                return near
        return np.flatnonzero(logits > -np.inf)

    def accept(self, token: int) -> None:
        """Remember a token of the answer."""
        self._past_count += 1
        llama.llama_sampler_accept(self._handle, token)

    def close(self) -> None:
        """Free the samplers.  Closing twice is fine."""
        if self._handle:
            llama.llama_sampler_free(self._handle)
            self._handle = None


def check(sampling: Sampling) -> None:
    """Refuse what the library would compute nonsense from.

    Raises:
        TaskRefused: names the field.
    """
    for name in _NUMBERS:
        value = getattr(sampling, name)
        if value is not None and not abs(value) <= _LARGEST:  # so NaN is refused too
            raise refused(f"{name} must be a number between {-_LARGEST:g} and {_LARGEST:g}")
    if sampling.repeat_penalty is not None and sampling.repeat_penalty < 1 / _LARGEST:
        raise refused("repeat_penalty must be above 0; 1 is none")
    if sampling.mirostat not in {None, 0, 1, 2}:
        raise refused("mirostat must be 0 (off), 1 or 2")
    if _repels(sampling):
        _check_dry(sampling)


def _check_dry(sampling: Sampling) -> None:
    if _or(sampling.dry_base, _DRY_BASE) < 1:
        raise refused("dry_base must be at least 1")
    breakers = sampling.dry_sequence_breakers or ()
    sizes = [len(breaker.encode("utf-8", "replace")) for breaker in breakers]
    fit = all(1 <= size <= _BREAKER_BYTES for size in sizes) and not any("\0" in text for text in breakers)
    if len(breakers) > _MOST_BREAKERS or not fit:
        raise refused(
            f"dry_sequence_breakers must be at most {_MOST_BREAKERS} texts of 1 to {_BREAKER_BYTES} bytes"
        )


def refused(reason: str) -> TaskRefused:
    """The call's own fault."""
    return TaskRefused("invalid_request_error", reason, by_call=True)


def always_likeliest(sampling: Sampling) -> bool:
    """Whether these settings always choose the greatest logit, so that no chain is needed."""
    return not (
        _or(sampling.temperature, _TEMPERATURE) >= _COLDEST
        or _repels(sampling)
        or _penalises_repeats(sampling)
        or _penalises_use(sampling)
        or _cuts_the_likeliest(sampling)
    )


def _remembering(
    sampling: Sampling, weights: Weights, past: Past, prototypes: Prototypes
) -> Iterator[tuple[Any, int, list[int]]]:
    """The samplers that look back, how far each does, and what is there."""
    count = weights.vocabulary_count
    if _penalises_repeats(sampling):
        window = _window(sampling.repeat_last_n, _REPEAT_LAST_COUNT, weights)
        made = llama.llama_sampler_init_penalties(count, window, sampling.repeat_penalty, 0.0, 0.0)
        yield made, window, past.last(window)
    if _penalises_use(sampling):
        window = _window(sampling.repeat_last_n, weights.trained_context, weights)
        frequency, presence = sampling.frequency_penalty or 0.0, sampling.presence_penalty or 0.0
        made = llama.llama_sampler_init_penalties(count, window, 1.0, frequency, presence)
        yield made, window, Past(written=past.written).last(window)
    if _repels(sampling):
        window = _window(sampling.dry_penalty_last_n, _DRY_LAST_COUNT, weights)
        yield prototypes.dry(sampling), window, past.last(window)


def _choosing(sampling: Sampling, vocabulary_count: int, seed: int) -> Iterator[Any]:
    """The samplers that narrow the candidates, and the one that chooses."""
    temperature = _or(sampling.temperature, _TEMPERATURE)
    tau, eta = _or(sampling.mirostat_tau, _MIROSTAT_TAU), _or(sampling.mirostat_eta, _MIROSTAT_ETA)
    if temperature < _COLDEST:
        if _cuts_the_likeliest(sampling):
            yield from _cuts(sampling, seed)
        yield llama.llama_sampler_init_greedy()
    elif sampling.mirostat:
        yield llama.llama_sampler_init_temp(temperature)
        if sampling.mirostat == 1:
            yield llama.llama_sampler_init_mirostat(vocabulary_count, seed, tau, eta, _MIROSTAT_M)
        else:
            yield llama.llama_sampler_init_mirostat_v2(seed, tau, eta)
    else:
        yield from _cuts(sampling, seed)
        yield llama.llama_sampler_init_temp(temperature)
        yield llama.llama_sampler_init_dist(seed)


def _cuts(sampling: Sampling, seed: int) -> Iterator[Any]:
    yield llama.llama_sampler_init_top_k(min(_top_k(sampling) or 0, 2**31 - 1))
    if sampling.typical_p is not None and sampling.typical_p < 1:
        yield llama.llama_sampler_init_min_p(_SURELY_ABOVE_ZERO, 1)
        yield llama.llama_sampler_init_typical(sampling.typical_p, 1)
    yield llama.llama_sampler_init_top_p(_or(sampling.top_p, _TOP_P), 1)
    yield llama.llama_sampler_init_min_p(_or(sampling.min_p, _MIN_P), 1)
    if _excludes(sampling):
        threshold = _or(sampling.xtc_threshold, _XTC_THRESHOLD)
        yield llama.llama_sampler_init_xtc(sampling.xtc_probability, threshold, 1, seed)


def _top_k(sampling: Sampling) -> int | None:
    """How many of the likeliest stay; None: all."""
    count = _TOP_K if sampling.top_k is None else sampling.top_k
    return count if count > 0 else None


def _enough(sampling: Sampling) -> int | None:
    """How many of the likeliest tokens are enough to choose from; None: all are needed."""
    cold = _or(sampling.temperature, _TEMPERATURE) < _COLDEST
    if _rewards(sampling) or (sampling.mirostat and not cold):
        return None
    return 1 if cold and not _cuts_the_likeliest(sampling) else _top_k(sampling)


def _rewards(sampling: Sampling) -> bool:
    """Whether a penalty makes tokens likelier."""
    penalties = (sampling.frequency_penalty, sampling.presence_penalty, sampling.dry_multiplier)
    return _or(sampling.repeat_penalty, 1.0) < 1 or any((penalty or 0.0) < 0 for penalty in penalties)


def _penalises_repeats(sampling: Sampling) -> bool:
    return sampling.repeat_penalty not in {None, 1} and sampling.repeat_last_n != 0


def _penalises_use(sampling: Sampling) -> bool:
    wanted = sampling.frequency_penalty or sampling.presence_penalty
    return bool(wanted) and sampling.repeat_last_n != 0


def _repels(sampling: Sampling) -> bool:
    """Whether DRY is wanted."""
    return bool(sampling.dry_multiplier) and sampling.dry_penalty_last_n != 0


def _excludes(sampling: Sampling) -> bool:
    """Whether XTC is wanted and can do something."""
    return (
        _or(sampling.xtc_probability, 0.0) > 0 and _or(sampling.xtc_threshold, _XTC_THRESHOLD) <= _XTC_NEVER
    )


def _cuts_the_likeliest(sampling: Sampling) -> bool:
    """Whether a cut may take the greatest logit away: XTC does, and so may the typical one."""
    if sampling.mirostat:
        return False
    return _excludes(sampling) or _or(sampling.typical_p, 1.0) < 1


def _window(given: int | None, default: int, weights: Weights) -> int:
    """How many tokens are looked back at; -1: all.  The library gets memory for as many at once."""
    count = default if given is None else given
    return weights.trained_context if count < 0 else min(count, weights.trained_context)


def _seed(seed: int | None, index: int) -> int:
    """A 32-bit seed; the value that means "random" to the library is stepped over."""
    return _RANDOM_SEED if seed is None else (seed + index) % _RANDOM_SEED


def _or(given: float | None, default: float) -> float:
    return default if given is None else given
