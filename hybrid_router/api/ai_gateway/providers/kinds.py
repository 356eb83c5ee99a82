"""Requests that do not say what is made of their input: text, a picture, a vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from hybrid_router.api.ai_gateway.asked import Asked, Given
from hybrid_router.api.openai import vectors
from hybrid_router.core.asks import Painting
from hybrid_router.core.call import Call, Operation, Sampling
from hybrid_router.core.errors import StreamBroken
from hybrid_router.core.event import Batch, Embedding, Picture


class Parameters(Struct, frozen=True, kw_only=True):
    """What models are told beside their input, under the names that are usual everywhere."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    negative_prompt: str = ""
    width: int = 0
    height: int = 0
    num_inference_steps: int | None = None
    guidance_scale: float | None = None

    def sampling(self, most_tokens: int | None, stop: Sequence[str] = ()) -> Sampling:
        """How a text is written."""
        return Sampling(
            max_tokens=most_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            seed=self.seed,
            stop=tuple(stop),
        )

    def painting(self, **fields: Any) -> Call:
        """The call for a picture."""
        ask = Painting(
            width=self.width,
            height=self.height,
            steps=self.num_inference_steps,
            guidance=self.guidance_scale,
            negative=self.negative_prompt,
        )
        return Call(operation=Operation.IMAGE, ask=ask, sampling=Sampling(seed=self.seed), **fields)


def first_able(given: Given, *kinds: Asked) -> Asked:
    """The first that a step of the alias can do; if there is none, the first."""
    return next((one for one in kinds if given.able(one.call)), kinds[0])


def picture(events: Batch) -> bytes:
    """The one picture of an answer.  Raises StreamBroken: there is none."""
    found = [event.content for event in events if isinstance(event, Picture) and event.partial is None]
    if not found:
        raise StreamBroken("the answer lacks a picture")
    return found[0]


def floats(call: Call, events: Batch) -> list[tuple[float, ...]]:
    """The vectors, in the order of the prompts.  Raises StreamBroken: one is missing."""
    return [vectors.floats(one.values) for one in vectors.each(call, events, Embedding)]
