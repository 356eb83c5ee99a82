"""What each picture model takes.

Source: the contract's table of inputs by task; sizes of the Stable Diffusion and Leonardo models are their
model pages' (2026).  What is not listed of a model, it is not sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

from hybrid_router.catalogue.families import Family


class Easel(Struct, frozen=True, kw_only=True):
    """One model's limits.

    Attributes:
        own: the size that the model makes when it cannot be told one; then no other is possible.
        least, most: of width and height, in pixels.
        steps: the field for steps; empty: none.
        images_count: pictures that it takes to begin with.
        most_image: their width and height, at most; 0: nobody says.
    """

    own: tuple[int, int] | None = None
    least: int = 256
    most: int = 2048
    steps: str = "num_steps"
    most_steps: int = 20
    guidance: bool = True
    negative: bool = True
    seed: bool = True
    strength: bool = False
    images_count: int = 0
    most_image: int = 0
    masked: bool = False
    most_characters: int | None = None


_DIFFUSION = Easel(strength=True, images_count=1)
_FLUX_2 = Easel(most=1920, steps="steps", most_steps=50, negative=False, images_count=4, most_image=512)
_BY_MODEL: Mapping[str, Easel] = MappingProxyType({
    "@cf/runwayml/stable-diffusion-v1-5-inpainting": Easel(strength=True, images_count=1, masked=True),
    "@cf/leonardo/phoenix-1.0": Easel(most_steps=50),
    "@cf/leonardo/lucid-origin": Easel(most=2496, most_steps=40, negative=False),
    "@cf/black-forest-labs/flux-1-schnell": Easel(
        own=(1024, 1024), steps="steps", most_steps=8, guidance=False, negative=False, seed=False,
        most_characters=2048,
    ),
})  # fmt: skip


def easel(family: Family, model: str) -> Easel:
    """Of a model; one that is not named is as its family is."""
    known = _BY_MODEL.get(model)
    if known is not None:
        return known
    if family is Family.PICTURE_FORM:
        return _FLUX_2
    return _DIFFUSION if family in (Family.PICTURE_PNG, Family.PICTURE_JPEG) else Easel(strength=False)
