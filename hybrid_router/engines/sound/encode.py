"""Sound files that are written while their sound is made.  One voice: mono, 16 bits a sample."""

from __future__ import annotations

import struct
from types import MappingProxyType
from typing import Protocol, TypeAlias, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from msgspec import Struct
from numpy.typing import NDArray

from hybrid_router.core.asks import SoundFormat

Floats: TypeAlias = NDArray[np.float32]
Shorts: TypeAlias = NDArray[np.int16]

_SAMPLE_BYTES = 2
_LOUDEST = 32767
_UNKNOWN = 0xFFFFFFFF  # "until the end", in a RIFF header
_WAV_HEAD = struct.Struct("<4sI4s4sIHHIIHH4sI")
_WAV_HEAD_REST_BYTES = _WAV_HEAD.size - 8  # what RIFF's own length counts of the head
_PCM = 1


class _Form(Struct, frozen=True):
    """How libav writes a format.  `options` are the muxer's."""

    container: str
    codec: str
    bit_rate: int | None
    options: tuple[tuple[str, str], ...] = ()


_FORMS = MappingProxyType(
    {
        # No Xing frame: its place is the beginning, and its content is known at the end.
        "mp3": _Form("mp3", "libmp3lame", 96_000, (("write_xing", "0"), ("id3v2_version", "0"))),
        # A page holds a second unless it is told otherwise; a listener would wait for it.
        "opus": _Form("ogg", "libopus", 48_000, (("page_duration", "100000"),)),
        "aac": _Form("adts", "aac", 96_000),
        "flac": _Form("flac", "flac", None),
    }
)


class SoundFile(Protocol):
    """A file that grows: what was fed and not given yet comes with a later call."""

    def feed(self, samples: Floats) -> bytes:
        """Add sound, -1 to 1; the next bytes of the file, perhaps none."""
        ...

    def end(self) -> bytes:
        """The rest of the file.  Nothing may be fed after it."""
        ...


def sound_file(form: SoundFormat, rate: int, samples_count: int | None = None) -> SoundFile:
    """A new file.

    Args:
        form: how it is written.
        rate: samples a second.
        samples_count: how many there will be, where that is known: then a wav says how long it is.
    """
    match form:
        case "pcm":
            return _Raw(b"")
        case "wav":
            return _Raw(_wav_head(rate, samples_count))
        case _:
            return _Encoded(_FORMS[form], rate)


def shorts(samples: Floats) -> Shorts:
    """As 16-bit numbers; what is too loud is cut, and what is no number is silence."""
    clean = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
    return np.rint(np.clip(clean, -1.0, 1.0) * _LOUDEST).astype("<i2")


def _wav_head(rate: int, samples_count: int | None) -> bytes:
    """RIFF's head; a file whose length is not known says the greatest there is, as ffmpeg does in a pipe."""
    content = _UNKNOWN if samples_count is None else samples_count * _SAMPLE_BYTES
    whole = min(_UNKNOWN, content + _WAV_HEAD_REST_BYTES)
    byte_rate = rate * _SAMPLE_BYTES
    return _WAV_HEAD.pack(
        b"RIFF", whole, b"WAVE", b"fmt ", 16, _PCM, 1, rate, byte_rate, _SAMPLE_BYTES, 16, b"data", content
    )


class _Raw:
    """Samples as they are, behind a head."""

    def __init__(self, head: bytes) -> None:
        self._head = head

    def feed(self, samples: Floats) -> bytes:
        head, self._head = self._head, b""
        return head + shorts(samples).tobytes()

    def end(self) -> bytes:
        return self._head


class _Pipe:
    """What libav writes to: it cannot go back, as the client's connection cannot."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, piece: bytes) -> int:
        self._written += piece
        return len(piece)

    def taken(self) -> bytes:
        """What was written since the last time."""
        taken = bytes(self._written)
        self._written.clear()
        return taken


class _Encoded:
    """A file of libav's."""

    def __init__(self, form: _Form, rate: int) -> None:
        self._pipe = _Pipe()
        options = {"flush_packets": "1", **dict(form.options)}
        self._container = av.open(self._pipe, "w", format=form.container, options=options)
        self._stream = cast("AudioStream", self._container.add_stream(form.codec, rate=rate, layout="mono"))
        if form.bit_rate is not None:
            self._stream.bit_rate = form.bit_rate
        self._rate = rate
        self._count = 0

    def feed(self, samples: Floats) -> bytes:
        if len(samples):
            frame = av.AudioFrame.from_ndarray(shorts(samples)[None, :], format="s16", layout="mono")
            frame.sample_rate = self._rate
            frame.pts = self._count
            self._count += len(samples)
            self._container.mux(self._stream.encode(frame))
        return self._pipe.taken()

    def end(self) -> bytes:
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._pipe.taken()
