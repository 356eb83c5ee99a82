"""A PNG of stripes.

Source: PNG (Third Edition), W3C, sections 5 and 11.
"""

from __future__ import annotations

import struct
import zlib

from hybrid_router.emulator.stand_ins.stripes import STRIPE_ROWS, colours

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGB_8_BITS = b"\x08\x02\x00\x00\x00"
_NO_FILTER = b"\x00"


def picture(said: str, width: int, height: int) -> bytes:
    """`width` by `height` pixels in the colours of `said`."""
    rows = [_NO_FILTER + bytes(colour) * width for colour in colours(said)]
    pixels = b"".join(rows[row // STRIPE_ROWS % 2] for row in range(height))
    head = struct.pack(">II", width, height) + _RGB_8_BITS
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(pixels, 1)), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(kind, content) for kind, content in parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
