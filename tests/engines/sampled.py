"""A place of the real starter model's text, at which samplers choose; and a form that allows some tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from hybrid_router.core.call import Sampling
from hybrid_router.engines.llama.chain import Prototypes
from hybrid_router.engines.llama.context import Context
from hybrid_router.engines.llama.sampler import Sampler
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.engines.task import TaskRefused

GREEDY = Sampling(temperature=0)
# Nothing but the model's own probabilities.
PLAIN = Sampling(temperature=1, top_k=0, top_p=1, min_p=0, seed=1)


def named(value: Sampling | dict[str, float]) -> str:
    """A test's name: what is set."""
    chosen = value if isinstance(value, dict) else msgspec.to_builtins(value)
    return ",".join(f"{name}={given:g}" for name, given in chosen.items() if isinstance(given, float | int))


@dataclass
class Place:
    """A place in a text: its logits are the library's, behind the last token of a prompt."""

    weights: Weights
    context: Context
    prototypes: Prototypes
    entry: int = 0

    def read(self, text: str | Sequence[int]) -> list[int]:
        """Go behind a prompt."""
        tokens = self.weights.tokenize(text) if isinstance(text, str) else list(text)
        self.context.forget(0)
        self.context.decode([(token, at, 0, at == len(tokens) - 1) for at, token in enumerate(tokens)])
        self.entry = len(tokens) - 1
        return tokens

    @property
    def logits(self) -> NDArray[np.float32]:
        return self.context.logits(self.entry)

    @property
    def ranked(self) -> list[int]:
        """All tokens, the likeliest first."""
        return [int(token) for token in np.argsort(-self.logits, kind="stable")]

    def sampler(self, sampling: Sampling, index: int = 0, **given: Any) -> Sampler:
        return Sampler(sampling, index, self.weights, prototypes=self.prototypes, **given)

    def draws(self, sampling: Sampling, count: int = 300, index: int = 0, **given: Any) -> list[int]:
        """Choose again and again at this place, as if each token led to it again."""
        sampler = self.sampler(sampling, index, **given)
        try:
            return [sampler.choose(self.context, self.entry) for _ in range(count)]
        finally:
            sampler.close()

    def write(self, text: str, sampling: Sampling, count: int, **given: Any) -> list[int]:
        """An answer of at most `count` tokens."""
        position = len(self.read(text))
        sampler = self.sampler(sampling, **given)
        written: list[int] = []
        while len(written) < count:
            token = sampler.choose(self.context, self.entry)
            if self.weights.ends(token):
                break
            written.append(token)
            self.context.decode([(token, position, 0, True)])
            self.entry, position = 0, position + 1
        sampler.close()
        return written


@contextmanager
def open_place(settings: LlamaSettings) -> Iterator[Place]:
    """A place in a context of its own, nothing read yet."""
    weights = Weights(settings.path, settings.offload)
    context = Context(weights, settings, cells_count=512, sequences_count=1, batch_count=128)
    yield Place(weights, context, Prototypes(weights))
    context.close()
    weights.close()


def probabilities(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    shares = np.exp(logits.astype(np.float64) - logits.max())
    whole: NDArray[np.float64] = shares / shares.sum()
    return whole


@dataclass
class Only:
    """A form that allows some tokens, at every place."""

    allowed: Sequence[int]
    taken: list[int] = field(default_factory=list)
    fault: Exception | None = None
    complete: bool = False

    def restrict(self, logits: NDArray[np.float32]) -> None:
        if self.fault is not None:
            raise self.fault
        kept = logits[list(self.allowed)]
        logits[:] = -np.inf
        logits[list(self.allowed)] = kept

    def accept(self, token: int) -> None:
        if self.fault is not None:
            raise self.fault
        self.taken.append(token)

    def forced(self) -> list[int]:
        return []


def refusal(place: Place, sampling: Sampling = GREEDY, **given: Any) -> TaskRefused:
    with pytest.raises(TaskRefused) as raised:
        place.draws(sampling, 1, **given)
    return raised.value
