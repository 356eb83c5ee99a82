"""From a message's part to an image's pixels or a sound's bytes.  Nothing is fetched."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from PIL import Image

from hybrid_router.core.call import AudioPart, ImagePart, Part
from hybrid_router.engines import pictures
from hybrid_router.engines.llama.media.sounds import checked_sound
from hybrid_router.engines.task import TaskRefused

_SHORT_SIDE_LOW = 512  # `detail: low`


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
    low = detail == "low"

    def prepare(image: Image.Image) -> None:
        if low:
            image.draft("RGB", _low(image))

    try:
        image = pictures.opened(content, prepare=prepare)
        if low:
            image = image.resize(_low(image), Image.Resampling.BICUBIC)
        flat = pictures.on_white(image)
    except pictures.Unreadable as error:
        raise refused(f"{name}: {error}") from None
    digest = hashlib.sha256(content + (b"low" if low else b"")).digest()
    return Picture(flat.width, flat.height, flat.tobytes(), digest)


def _low(image: Image.Image) -> tuple[int, int]:
    """The size of an image nobody looks at closely."""
    scale = min(1.0, _SHORT_SIDE_LOW / min(image.size))
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))
