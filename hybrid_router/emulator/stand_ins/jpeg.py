"""A baseline JPEG of stripes: every block of 8 by 8 pixels has one colour, so it is one number a channel.

Source: ITU-T T.81, annexes B, F and K; JFIF 1.02 for the colours.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator

from hybrid_router.emulator.stand_ins.stripes import STRIPE_ROWS, Colour, colours

_BLOCK = 8
_CHANNELS = 3
# Lengths and values of the usual code for differences (T.81, table K.3); one code ends every block.
_DC_LENGTHS = bytes((0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0))
_DC_VALUES = bytes(range(12))
_AC_LENGTHS = bytes((1, *([0] * 15)))
_AC_VALUES = b"\x00"
_END_OF_BLOCK = "0"
_SAME_AGAIN = "00" + _END_OF_BLOCK
# A flat block's number is eight times its brightness; divided by eight it is the brightness.
_DIVISORS = b"\x08" * 64
_MIDDLE = 128


def picture(said: str, width: int, height: int) -> bytes:
    """`width` by `height` pixels in the colours of `said`."""
    size = struct.pack(">BHHB", 8, height, width, _CHANNELS)
    channels = b"".join(bytes((number, 0x11, 0)) for number in range(1, _CHANNELS + 1))
    scan = bytes(
        (_CHANNELS, *itertools.chain(*((number, 0) for number in range(1, _CHANNELS + 1))), 0, 63, 0)
    )
    return b"".join(
        (
            b"\xff\xd8",
            _segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"),
            _segment(0xDB, b"\0" + _DIVISORS),
            _segment(0xC0, size + channels),
            _segment(0xC4, b"\x00" + _DC_LENGTHS + _DC_VALUES),
            _segment(0xC4, b"\x10" + _AC_LENGTHS + _AC_VALUES),
            _segment(0xDA, scan),
            _packed("".join(_rows(said, -(-width // _BLOCK), -(-height // _BLOCK)))),
            b"\xff\xd9",
        )
    )


def _rows(said: str, across: int, down: int) -> Iterator[str]:
    """The blocks of each row of blocks, as bits."""
    stripes = [_brightness(colour) for colour in colours(said)]
    codes = _dc_codes()
    before = (0, 0, 0)
    for row in range(down):
        now = stripes[row * _BLOCK // STRIPE_ROWS % 2]
        first = "".join(
            _difference(codes, new - old) + _END_OF_BLOCK for new, old in zip(now, before, strict=True)
        )
        yield first + _SAME_AGAIN * _CHANNELS * (across - 1)
        before = now


def _brightness(colour: Colour) -> tuple[int, int, int]:
    """Y, Cb and Cr, around zero."""
    red, green, blue = colour
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return (
        round(luma) - _MIDDLE,
        min(_MIDDLE - 1, round((blue - luma) / 1.772)),
        min(_MIDDLE - 1, round((red - luma) / 1.402)),
    )


def _dc_codes() -> list[str]:
    """The code of each category, by T.81, annex C."""
    codes, code = [], 0
    for length, count in enumerate(_DC_LENGTHS, 1):
        for _ in range(count):
            codes.append(f"{code:0{length}b}")
            code += 1
        code <<= 1
    return codes


def _difference(codes: list[str], value: int) -> str:
    """A category, and which number of it."""
    category = abs(value).bit_length()
    place = value if value >= 0 else value + (1 << category) - 1
    return codes[category] + (f"{place:0{category}b}" if category else "")


def _packed(bits: str) -> bytes:
    """Whole bytes, filled up with ones; 0xFF is told from a marker by a zero after it."""
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content
