"""What a picture model makes when nobody says how large, or in how many steps.

Contract where it names a default; the model's own native size and its makers' usual steps elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct


class Usual(Struct, frozen=True):
    """A picture as a model makes it by itself; `most_steps` are never exceeded."""

    width: int
    height: int
    steps: int
    most_steps: int


_ELSE = Usual(1024, 1024, 20, 20)
_BY_MODEL: Mapping[str, Usual] = MappingProxyType({
    "@cf/black-forest-labs/flux-1-schnell": Usual(1024, 1024, 4, 8),
    "@cf/black-forest-labs/flux-2-dev": Usual(1024, 768, 25, 50),
    "@cf/black-forest-labs/flux-2-klein-4b": Usual(1024, 768, 4, 50),
    "@cf/black-forest-labs/flux-2-klein-9b": Usual(1024, 768, 4, 50),
    "@cf/leonardo/lucid-origin": Usual(1120, 1120, 25, 50),
    "@cf/leonardo/phoenix-1.0": Usual(1024, 1024, 25, 50),
    "@cf/runwayml/stable-diffusion-v1-5-img2img": Usual(512, 512, 20, 20),
    "@cf/runwayml/stable-diffusion-v1-5-inpainting": Usual(512, 512, 20, 20),
})  # fmt: skip


def usual(model: str) -> Usual:
    """Of the model of that id."""
    return _BY_MODEL.get(model, _ELSE)
