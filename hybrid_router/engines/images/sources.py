"""The pictures that a task brings: the one that changes, and the mask that says where."""

from __future__ import annotations

import math
import mmap
from typing import IO, TypeAlias, cast

from msgspec import Struct
from PIL import Image

from hybrid_router.engines import pictures
from hybrid_router.engines.images.order import refused

Size: TypeAlias = tuple[int, int]
_WHITE = 255


class Source(Struct, frozen=True):
    """A picture to begin with, in the size of the result.  `mask`: white where it may change."""

    picture: Image.Image
    mask: Image.Image | None = None


def opened(files: list[mmap.mmap], size: Size, *, own_side: int, multiple: int) -> Source:
    """Unpack one file, and a second one that is the mask.

    `size` (0, 0): the picture's shape, with as many pixels as the model was made for.

    Raises:
        TaskRefused: a file is no picture, or the mask does not fit.
    """
    image = _read(files[0], "image")
    size = size if all(size) else own_size(image.size, own_side, multiple)
    mask = _mask(_read(files[1], "mask"), image.size, size) if len(files) > 1 else None
    flat = pictures.on_white(image)
    return Source(flat.resize(size, Image.Resampling.LANCZOS), mask)


def own_size(shape: Size, side: int, multiple: int) -> Size:
    """Width and height of `shape`'s proportions and about `side` × `side` pixels."""
    scale = side / math.sqrt(shape[0] * shape[1])
    width, height = (max(multiple, round(length * scale / multiple) * multiple) for length in shape)
    return width, height


def _read(file: mmap.mmap, name: str) -> Image.Image:
    try:
        return pictures.opened(cast(IO[bytes], file))  # it has all that Pillow uses
    except pictures.Unreadable as error:
        raise refused(str(error), name) from None


def _mask(image: Image.Image, shape: Size, size: Size) -> Image.Image:
    if image.size != shape:
        raise refused(
            f"it has {image.width} × {image.height} pixels, the image {shape[0]} × {shape[1]};"
            " make them equal",
            "mask",
        )
    if not image.has_transparency_data:
        raise refused("it has no transparency; what may change must be transparent in it", "mask")
    alpha = image.convert("RGBA").getchannel("A")
    return alpha.point(lambda value: 0 if value else _WHITE).resize(size, Image.Resampling.NEAREST)
