"""From a message's part to an image's pixels or a sound's bytes.  Nothing is fetched."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from PIL import Image, ImageOps, UnidentifiedImageError

from hybrid_router.core.call import AudioPart, ImagePart, Part
from hybrid_router.engines.llama.media.sounds import checked_sound
from hybrid_router.engines.task import TaskRefused

MOST_PIXELS = 64_000_000
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_LONGEST_BY_SHORTEST = 200  # what image models were made for
_FEWEST_SIDE = 2
_SHORT_SIDE_LOW = 512  # `detail: low`
_WHITE = (255, 255, 255)


@dataclass(frozen=True)
class Picture:
    """An image: `rgb` are its pixels, row by row, three bytes each."""

    width: int
    height: int
    rgb: bytes
    digest: bytes


@dataclass(frozen=True)
class Sound:
    """A sound file that was checked."""

    content: bytes
    digest: bytes


Medium = Picture | Sound


def medium_of(part: Part, name: str) -> Medium:
    """Read a part.  `name` is what the client is told it is about, such as `image 2`.

    Raises:
        TaskRefused: it is not inside the call, or cannot be read; says why and what to do.
    """
    if isinstance(part, ImagePart):
        return _picture(_content(part.image_url.get("url"), name), name, part.image_url.get("detail"))
    if isinstance(part, AudioPart):
        content = _decoded(str(part.input_audio.get("data", "")).encode("utf-8", "replace"), name)
        return Sound(checked_sound(content, name), hashlib.sha256(content).digest())
    raise refused(f"{name}: files cannot be read; send their text")


def refused(reason: str) -> TaskRefused:
    """It is the call's fault."""
    return TaskRefused("invalid_request_error", f"messages: {reason}", by_call=True)


def _content(url: object, name: str) -> bytes:
    """What a data: URL holds."""
    if not isinstance(url, str) or url[:5].lower() != "data:":
        raise refused(f"{name}: send it as a data: URL; this router fetches nothing")
    head, comma, content = url[5:].partition(",")
    if not comma:
        raise refused(f"{name}: its data: URL has no comma, and so no content")
    raw = content.encode("utf-8", "replace")
    return _decoded(raw, name) if head.lower().endswith(";base64") else unquote_to_bytes(raw)


def _decoded(content: bytes, name: str) -> bytes:
    """Base64, with line ends and percent signs as some clients write it."""
    content = b"".join((unquote_to_bytes(content) if b"%" in content else content).split())
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error as error:
        raise refused(f"{name}: its base64 is not valid ({error})") from None


def _picture(content: bytes, name: str, detail: object) -> Picture:
    with _readable(name):
        image: Image.Image = Image.open(io.BytesIO(content), formats=_FORMATS)
        _check_size(image, name)
        low = detail == "low"
        if low:
            image.draft("RGB", _low(image))
        image.load()
        image = ImageOps.exif_transpose(image)
        if low:
            image = image.resize(_low(image), Image.Resampling.BICUBIC)
        flat = _on_white(image)
        digest = hashlib.sha256(content + (b"low" if low else b"")).digest()
        return Picture(flat.width, flat.height, flat.tobytes(), digest)


def _check_size(image: Image.Image, name: str) -> None:
    """Refuse by what the header says, before anything is unpacked."""
    short, long = sorted(image.size)
    if short * long > MOST_PIXELS:
        raise refused(
            f"{name}: it has {image.width} × {image.height} pixels; "
            f"send at most {MOST_PIXELS // 1_000_000} million"
        )
    if short < _FEWEST_SIDE or long > _LONGEST_BY_SHORTEST * short:
        raise refused(f"{name}: it has {image.width} × {image.height} pixels; no model reads such a strip")


def _low(image: Image.Image) -> tuple[int, int]:
    """The size of an image nobody looks at closely."""
    scale = min(1.0, _SHORT_SIDE_LOW / min(image.size))
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))


def _on_white(image: Image.Image) -> Image.Image:
    """Three bytes a pixel; what can be seen through shows white."""
    if not image.has_transparency_data:
        return _narrowed(image).convert("RGB")
    layered = image.convert("RGBA")
    flat = Image.new("RGB", layered.size, _WHITE)
    flat.paste(layered, mask=layered.getchannel("A"))
    return flat


def _narrowed(image: Image.Image) -> Image.Image:
    """Sixteen bits of grey as eight: a plain conversion would cut them off at white."""
    if image.mode.startswith("I"):
        return image.convert("I").point(lambda value: value / 257).convert("L")
    return image


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Name what is wrong with a file that Pillow cannot read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own limit and of odd metadata: ours is checked
            yield
    except UnidentifiedImageError:
        raise refused(f"{name}: it is no PNG, JPEG, WebP or GIF") from None
    except Image.DecompressionBombError:
        raise refused(f"{name}: it has too many pixels") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise refused(f"{name}: the file is damaged or cut off ({error})") from None
