"""Pictures from files that anybody may have made: checked by their heads before anything is unpacked."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from PIL import Image, ImageOps, UnidentifiedImageError

MOST_PIXELS = 64_000_000
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_LONGEST_BY_SHORTEST = 200  # what image models were made for
_FEWEST_SIDE = 2
_WHITE = (255, 255, 255)


class Unreadable(ValueError):
    """The file is no picture that is read here; the text says why and what to do."""


def opened(
    content: bytes | IO[bytes],
    *,
    most_pixels: int = MOST_PIXELS,
    prepare: Callable[[Image.Image], None] = lambda image: None,
) -> Image.Image:
    """A picture, unpacked and turned the right way up; its mode is the file's.

    Args:
        content: a file's bytes, or an open one, such as `mmap`.
        prepare: is given the picture before it is unpacked, for `Image.draft`.

    Raises:
        Unreadable: for anything that is wrong with it.
    """
    with _named():
        image: Image.Image = Image.open(
            io.BytesIO(content) if isinstance(content, bytes) else content, formats=_FORMATS
        )
        _check_size(image, most_pixels)
        prepare(image)
        image.load()
        return ImageOps.exif_transpose(image)


def on_white(image: Image.Image) -> Image.Image:
    """Three bytes a pixel; what can be seen through shows white."""
    with _named():
        if not image.has_transparency_data:
            return _narrowed(image).convert("RGB")
        layered = image.convert("RGBA")
        flat = Image.new("RGB", layered.size, _WHITE)
        flat.paste(layered, mask=layered.getchannel("A"))
        return flat


def _check_size(image: Image.Image, most_pixels: int) -> None:
    """Refuse by what the header says, before anything is unpacked."""
    short, long = sorted(image.size)
    if short * long > most_pixels:
        raise Unreadable(
            f"it has {image.width} × {image.height} pixels; send at most {most_pixels / 1_000_000:g} million"
        )
    if short < _FEWEST_SIDE or long > _LONGEST_BY_SHORTEST * short:
        raise Unreadable(f"it has {image.width} × {image.height} pixels; no model reads such a strip")


def _narrowed(image: Image.Image) -> Image.Image:
    """Sixteen bits of grey as eight: a plain conversion would cut them off at white."""
    if image.mode.startswith("I"):
        return image.convert("I").point(lambda value: value / 257).convert("L")
    return image


@contextmanager
def _named() -> Iterator[None]:
    """Name what is wrong with a file that Pillow cannot read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own limit and of odd metadata: ours is checked
            yield
    except Unreadable:
        raise
    except UnidentifiedImageError:
        raise Unreadable("it is no PNG, JPEG, WebP or GIF") from None
    except Image.DecompressionBombError:
        raise Unreadable("it has far too many pixels; make it smaller") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise Unreadable(f"the file is damaged or cut off ({error})") from None
