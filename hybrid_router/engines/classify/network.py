"""The seam between the engine and a kind of classifier."""

from __future__ import annotations

from typing import Protocol

from PIL import Image


class Network(Protocol):
    """A model that knows what pictures may show."""

    @property
    def description(self) -> str:
        """What kind of model it is, in a few words."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """What it can tell, in the order of its scores."""
        ...

    def scores(self, image: Image.Image) -> list[float]:
        """How likely each label is, 0 to 1.  `image` has three bytes a pixel, and any size."""
        ...
