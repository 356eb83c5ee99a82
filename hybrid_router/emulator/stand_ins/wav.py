"""A WAV of a quiet hum that holds what it would say as its comment.

Source: Multimedia Programming Interface and Data Specifications 1.0 (RIFF, LIST INFO).
"""

from __future__ import annotations

import array
import math
import struct
import sys
from collections.abc import Iterator

RATE = 24_000
_HUM_HZ = 120
_LOUDNESS = 300
_BYTES_A_SAMPLE = 2
_HEAD = struct.Struct("<4sI")
_FORMAT = struct.Struct("<HHIIHH")


def samples(duration_s: float) -> bytes:
    """16-bit samples, mono, little-endian."""
    period = RATE // _HUM_HZ
    wave = array.array("h", (round(_LOUDNESS * math.sin(2 * math.pi * i / period)) for i in range(period)))
    if sys.byteorder == "big":
        wave.byteswap()
    count_bytes = int(duration_s * RATE) * _BYTES_A_SAMPLE
    return (wave.tobytes() * (count_bytes // (period * _BYTES_A_SAMPLE) + 1))[:count_bytes]


def sound(said: str, duration_s: float) -> bytes:
    """The whole file."""
    form = _FORMAT.pack(1, 1, RATE, RATE * _BYTES_A_SAMPLE, _BYTES_A_SAMPLE, 8 * _BYTES_A_SAMPLE)
    parts = (
        (b"fmt ", form),
        (b"LIST", b"INFO" + _chunk(b"ICMT", said.encode() + b"\0")),
        (b"data", samples(duration_s)),
    )
    body = b"WAVE" + b"".join(_chunk(kind, content) for kind, content in parts)
    return _chunk(b"RIFF", body)


def read(content: bytes) -> tuple[str | None, float] | None:
    """The comment and the length in seconds; None: this is no WAV that says how long it is."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return None
    said, rate_bytes, sound_bytes = None, 0, 0
    for kind, part in _chunks(content, 12):
        if kind == b"fmt " and len(part) >= _FORMAT.size:
            rate_bytes = _FORMAT.unpack_from(part)[3]
        elif kind == b"LIST" and part[:4] == b"INFO":
            notes = dict(_chunks(part, 4))
            said = notes[b"ICMT"].rstrip(b"\0").decode("utf-8", "replace") if b"ICMT" in notes else None
        elif kind == b"data":
            sound_bytes += len(part)
    return (said, sound_bytes / rate_bytes) if rate_bytes else None


def _chunk(kind: bytes, content: bytes) -> bytes:
    return _HEAD.pack(kind, len(content)) + content + b"\0" * (len(content) % 2)


def _chunks(content: bytes, place: int) -> Iterator[tuple[bytes, bytes]]:
    while place + _HEAD.size <= len(content):
        kind, size_bytes = _HEAD.unpack_from(content, place)
        place += _HEAD.size
        yield kind, content[place : place + size_bytes]
        place += size_bytes + size_bytes % 2
