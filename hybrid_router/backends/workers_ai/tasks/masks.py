"""Masks: ours are transparent where a picture may change, the cloud's are white there.

Where a PNG's transparency is in its palette, only the palette has to be written anew.  Elsewhere pixels would
have to be decoded, which this process does not do with what clients send.
Source: PNG (W3C, third edition), sections 5.3 and 11.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from hybrid_router.backends.workers_ai.tasks.picture_file import PNG_HEAD
from hybrid_router.core.errors import NotAble
from hybrid_router.core.upload import Upload

MOST_BYTES = 2**20  # it is sent as a list of numbers
_LENGTH = struct.Struct(">I")
_SHAPE = struct.Struct(">IIBBBBB")
_AROUND_BYTES = 12  # length, name and checksum of a chunk
_GREY, _PALETTE = 0, 3
_WHITE, _BLACK = b"\xff\xff\xff", b"\0\0\0"
_DEEPEST = 8


class _Chunk(NamedTuple):
    name: bytes
    content: bytes


def white_where_transparent(mask: Upload) -> bytes:
    """A PNG of the same pixels that says so in white and black.

    Raises:
        NotAble: that cannot be done without decoding its pixels.
    """
    if mask.size_bytes > MOST_BYTES:
        raise _refused(f"it has {mask.size_bytes} bytes, at most {MOST_BYTES} can be sent")
    with mask.mapped() as pages:
        content = pages[:]
    chunks = list(_chunks(content))
    by_name = dict(reversed(chunks))
    shape = by_name.get(b"IHDR", b"")
    if not content.startswith(PNG_HEAD) or len(shape) != _SHAPE.size:
        raise _refused("it is no PNG")
    width, height, depth, colour, *rest = _SHAPE.unpack(shape)
    palette = _palette(depth, colour, by_name)
    pixels = [chunk for chunk in chunks if chunk.name == b"IDAT"]
    written = [
        _Chunk(b"IHDR", _SHAPE.pack(width, height, depth, _PALETTE, *rest)),
        _Chunk(b"PLTE", palette),
        *pixels,
        _Chunk(b"IEND", b""),
    ]
    return PNG_HEAD + b"".join(map(_written, written))


def _palette(depth: int, colour: int, by_name: dict[bytes, bytes]) -> bytes:
    """White for what is transparent, black for all else."""
    told = by_name.get(b"tRNS")
    if colour == _PALETTE and told is not None:
        colours_count = len(by_name.get(b"PLTE", b"")) // 3
        clear = [index < len(told) and told[index] == 0 for index in range(colours_count)]
    elif colour == _GREY and told is not None and depth <= _DEEPEST:
        clear = [index == int.from_bytes(told[:2], "big") for index in range(2**depth)]
    else:
        raise _refused("only a PNG with a palette, whose transparent colours are in that, can be converted")
    return b"".join(_WHITE if is_clear else _BLACK for is_clear in clear)


def _chunks(content: bytes) -> Iterator[_Chunk]:
    at = len(PNG_HEAD)
    while at + _AROUND_BYTES <= len(content):
        (size_bytes,) = _LENGTH.unpack_from(content, at)
        yield _Chunk(content[at + 4 : at + 8], content[at + 8 : at + 8 + size_bytes])
        at += _AROUND_BYTES + size_bytes


def _written(chunk: _Chunk) -> bytes:
    named = chunk.name + chunk.content
    return _LENGTH.pack(len(chunk.content)) + named + _LENGTH.pack(zlib.crc32(named))


def _refused(why: str) -> NotAble:
    return NotAble(f"mask: {why}", param="mask")
