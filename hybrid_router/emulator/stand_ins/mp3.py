"""An MP3 of silence that holds what it would say as its title.

Every frame is MPEG-1 layer III at 32 kbit/s and 44.1 kHz, mono, and says that it has no sound data.
Source: ISO/IEC 11172-3, 2.4.1 and 2.4.2; ID3v2.4, sections 3 and 4.
"""

from __future__ import annotations

import struct

FRAME_S = 1152 / 44_100
_FRAME_HEAD = b"\xff\xfb\x10\xc4"
_FRAME_BYTES = 144 * 32_000 // 44_100
_FRAME = _FRAME_HEAD + b"\0" * (_FRAME_BYTES - len(_FRAME_HEAD))
_HEAD_BYTES = 10
_UTF_8 = b"\x03"


def sound(said: str, duration_s: float) -> bytes:
    """The whole file."""
    title = _UTF_8 + said.encode()
    tag = b"TIT2" + _size(len(title)) + b"\0\0" + title
    return b"ID3\x04\0\0" + _size(len(tag)) + tag + _FRAME * max(2, round(duration_s / FRAME_S))


def read(content: bytes) -> tuple[str | None, float] | None:
    """The title and the length in seconds; None: this is no file of `sound`'s."""
    if content[:4] != b"ID3\x04" or content[_HEAD_BYTES : _HEAD_BYTES + 4] != b"TIT2":
        return None
    end = _HEAD_BYTES + _length(content[6:10])
    title = content[2 * _HEAD_BYTES + 1 : end].decode("utf-8", "replace")
    return title, (len(content) - end) // _FRAME_BYTES * FRAME_S


def _size(count: int) -> bytes:
    """Seven bits a byte, so that no size looks like a frame."""
    return bytes(count >> shift & 0x7F for shift in (21, 14, 7, 0))


def _length(size: bytes) -> int:
    first, second, third, fourth = struct.unpack("4B", size)
    return int(first << 21 | second << 14 | third << 7 | fourth)
