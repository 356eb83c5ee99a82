"""Picture files, as far as they are looked at here: what they are, how large, and whether they are whole.

Only heads and ends are read; pixels are never decoded in this process.
Sources: PNG (W3C, third edition), JPEG (ITU T.81), WebP container (RFC 9649).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["png", "jpeg", "webp"]
PNG_HEAD = b"\x89PNG\r\n\x1a\n"
_JPEG_HEAD, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_PNG_END = b"IEND\xaeB`\x82"
_END_BYTES = 64  # some encoders pad
_SIZES = struct.Struct(">HH")
_LONG_SIZES = struct.Struct(">II")
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers that hold a frame's size
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length


class Size(NamedTuple):
    """In pixels."""

    width: int
    height: int


def kind(content: bytes) -> Kind | None:
    """What a file is by its first bytes; None: no picture that is known here."""
    if content.startswith(PNG_HEAD):
        return "png"
    if content.startswith(_JPEG_HEAD):
        return "jpeg"
    return "webp" if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else None


def is_whole(content: bytes) -> bool:
    """Whether the file's own end is there."""
    match kind(content):
        case "png":
            return _PNG_END in content[-_END_BYTES:]
        case "jpeg":
            return _JPEG_END in content[-_END_BYTES:]
        case "webp":
            return int.from_bytes(content[4:8], "little") + 8 <= len(content)
    return False


def size(content: bytes) -> Size | None:
    """Width and height; None: they are not where they should be."""
    match kind(content):
        case "png" if content[12:16] == b"IHDR" and len(content) >= 24:  # noqa: PLR2004
            return Size(*_LONG_SIZES.unpack_from(content, 16))
        case "jpeg":
            return next(_frames(content), None)
        case "webp":
            return _of_webp(content)
    return None


def _frames(content: bytes) -> Iterator[Size]:
    at = 2
    while at + 9 <= len(content) and content[at] == 0xFF:  # noqa: PLR2004
        marker = content[at + 1]
        if marker in _FRAMES:
            height, width = _SIZES.unpack_from(content, at + 5)
            yield Size(width, height)
            return
        if marker == 0xFF:  # noqa: PLR2004 - a filler
            at += 1
        elif marker in _ALONE:
            at += 2
        else:
            at += 2 + max(2, int.from_bytes(content[at + 2 : at + 4], "big"))


def _of_webp(content: bytes) -> Size | None:
    match content[12:16]:
        case b"VP8X" if len(content) >= 30:  # noqa: PLR2004
            return Size(
                int.from_bytes(content[24:27], "little") + 1, int.from_bytes(content[27:30], "little") + 1
            )
        case b"VP8L" if len(content) >= 25:  # noqa: PLR2004
            bits = int.from_bytes(content[21:25], "little")
            return Size((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
        case b"VP8 " if len(content) >= 30:  # noqa: PLR2004
            return Size(
                int.from_bytes(content[26:28], "little") & 0x3FFF,
                int.from_bytes(content[28:30], "little") & 0x3FFF,
            )
    return None
