"""Sound files, held against what they claim before the library unpacks them.

The library gets memory for as many samples as a header promises, at the rate it promises, and ends the
process when there is none.

Source: RIFF WAVE (Microsoft, 1991); RFC 9639, section 8.2 (FLAC's STREAMINFO); ISO/IEC 11172-3, 2.4.1.3, and
13818-3 for the lower rates (MPEG audio's frame header).
"""

from __future__ import annotations

import struct

from hybrid_router.engines.task import TaskRefused

_MOST_S = 600.0
_FEWEST_S = 0.05
_RATES = range(4_000, 384_001)
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_MOST_CHANNELS = 8
_FORMAT_BYTES = 16
_STREAMINFO_END = 42
_LAYER_3 = 1
# By version bits: 0 MPEG 2.5, 2 MPEG 2, 3 MPEG 1.
_MP3_RATES = {0: (11025, 12000, 8000), 2: (22050, 24000, 16000), 3: (44100, 48000, 32000)}
_MP3_KILOBITS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_MP3_LOW_KILOBITS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
_MPEG_1 = 3


class _Wrong(Exception):
    """What is wrong with a file."""


def checked_sound(content: bytes, name: str) -> bytes:
    """A file that is what it says, for the library to read.

    Raises:
        TaskRefused: no WAV, MP3 or FLAC, damaged, too long or too short.
    """
    reason = "the file is damaged or cut off"
    try:
        content, length_s = _read(content)
    except _Wrong as wrong:
        reason = str(wrong)
    except struct.error:
        pass
    else:
        if _FEWEST_S <= length_s <= _MOST_S:
            return content
        reason = f"it lasts {length_s:.2f} s; send {_FEWEST_S} to {_MOST_S:.0f} s"
    raise TaskRefused("invalid_request_error", f"messages: {name}: {reason}", by_call=True)


def _read(content: bytes) -> tuple[bytes, float]:
    """The file as it may be read, and its length in seconds."""
    if content[:4] == b"RIFF" and content[8:12] == b"WAVE":
        return _wave(content)
    if content[:4] == b"fLaC":
        return content, _flac_s(content)
    if content[:3] == b"ID3" or _frame(content, 0) is not None:
        return content, _mp3_s(content)
    raise _Wrong("it is no WAV, MP3 or FLAC")


def _wave(content: bytes) -> tuple[bytes, float]:
    """The file written anew, of what is really there: format and samples."""
    form, at = b"", 12
    while at + 8 <= len(content):
        kind, size = struct.unpack_from("<4sI", content, at)
        body = content[at + 8 : at + 8 + size]
        if kind == b"fmt ":
            form = body
        elif kind == b"data" and form:
            return _rewritten(form, body)
        at += 8 + size + size % 2
    raise _Wrong("the WAV file has no samples")


def _rewritten(form: bytes, samples: bytes) -> tuple[bytes, float]:
    tag, channels, rate, _, align, bits = struct.unpack_from("<HHIIHH", form)
    if tag == _EXTENSIBLE and len(form) >= _FORMAT_BYTES + 10:
        (tag,) = struct.unpack_from("<H", form, _FORMAT_BYTES + 8)
    if (tag, bits) not in {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (_FLOAT, 64)}:
        raise _Wrong("its WAV samples are compressed; send PCM")
    if rate not in _RATES or not 1 <= channels <= _MOST_CHANNELS or align != channels * bits // 8:
        raise _Wrong("the WAV file's header makes no sense")
    samples = samples[: len(samples) // align * align]
    head = struct.pack("<HHIIHH", tag, channels, rate, rate * align, align, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", len(samples))
    length = struct.pack("<I", len(body) + len(samples))
    return b"RIFF" + length + body + samples, len(samples) / align / rate


def _flac_s(content: bytes) -> float:
    """Seconds, as STREAMINFO has them; a stream that does not know its length is refused."""
    if len(content) < _STREAMINFO_END or content[4] & 0x7F:
        raise _Wrong("the FLAC file is damaged or cut off")
    packed = int.from_bytes(content[18:26], "big")
    rate, count = packed >> 44, packed & (1 << 36) - 1
    if rate not in _RATES or not count:
        raise _Wrong("the FLAC file does not say how long it is; convert it to WAV")
    return count / rate


def _mp3_s(content: bytes) -> float:
    """Seconds, by every frame's header; what is between frames is stepped over."""
    at, length_s, found_count = _behind_tag(content), 0.0, 0
    while 0 <= at < len(content) and length_s <= _MOST_S:
        frame = _frame(content, at)
        if frame is None:
            at = content.find(b"\xff", at + 1)
            continue
        size, seconds = frame
        at += size
        length_s += seconds
        found_count += 1
    if not found_count:
        raise _Wrong("it is no WAV, MP3 or FLAC")
    return length_s


def _behind_tag(content: bytes) -> int:
    """Where an MP3 begins behind its ID3 tag, whose length has seven bits a byte."""
    if content[:3] != b"ID3":
        return 0
    size = 0
    for byte in content[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size


def _frame(content: bytes, at: int) -> tuple[int, float] | None:
    """Bytes and seconds of the MP3 frame that begins here; None: none does."""
    if len(content) < at + 4 or content[at] != 0xFF or content[at + 1] & 0xE0 != 0xE0:  # noqa: PLR2004 - sync
        return None
    version, layer = content[at + 1] >> 3 & 3, content[at + 1] >> 1 & 3
    rate_at, kilobits_at = content[at + 2] >> 2 & 3, content[at + 2] >> 4
    rates = _MP3_RATES.get(version, ())
    if layer != _LAYER_3 or rate_at >= len(rates):
        return None
    kilobits = (_MP3_KILOBITS if version == _MPEG_1 else _MP3_LOW_KILOBITS)[kilobits_at]
    if not kilobits:
        return None
    rate, samples = rates[rate_at], 1152 if version == _MPEG_1 else 576
    padding = content[at + 2] >> 1 & 1
    return samples // 8 * kilobits * 1000 // rate + padding, samples / rate
