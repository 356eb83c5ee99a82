"""Sound files that grow: what comes out piece by piece is one file, and it is what went in."""

from __future__ import annotations

import io
import struct
import wave
from typing import get_args

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_router.core.asks import SoundFormat
from hybrid_router.engines.sound.encode import Floats, sound_file
from hybrid_router.engines.sound.tempo import at_tempo

RATE = 24_000
FORMATS: tuple[SoundFormat, ...] = get_args(SoundFormat)
HEARD_HZ = {"opus": 48_000}
# What encoders put in front of the sound or behind it.
PADDING_S = {"mp3": 0.1, "aac": 0.1}


def tone(duration_s: float, hertz: float = 440.0) -> Floats:
    samples: Floats = (0.4 * np.sin(2 * np.pi * hertz * np.arange(int(duration_s * RATE)) / RATE)).astype(
        np.float32
    )
    return samples


def pitch(samples: Floats, rate: int) -> float:
    """The loudest frequency."""
    loudness = np.abs(np.fft.rfft(samples))
    return float(loudness.argmax()) * rate / len(samples)


def heard(form: SoundFormat, content: bytes) -> tuple[Floats, int]:
    """A file's samples and their rate."""
    if form == "pcm":
        return (np.frombuffer(content, "<i2") / 32_767).astype(np.float32), RATE
    with av.open(io.BytesIO(content), "r") as file:
        frames: list[av.AudioFrame] = []
        resampler = av.AudioResampler("flt", "mono")
        for frame in file.decode(audio=0):
            frames += resampler.resample(frame)
        return np.concatenate([frame.to_ndarray()[0] for frame in frames]), frames[0].sample_rate


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_the_sound_that_was_fed(form: SoundFormat) -> None:
    """Its length, rate and pitch; the first second is out before the second is fed."""
    sound = tone(2.5)
    file = sound_file(form, RATE)
    first = file.feed(sound[:RATE])
    rest = file.feed(sound[RATE:]) + file.end()

    found, rate = heard(form, first + rest)
    assert len(first) > len(first + rest) / 5
    assert rate == HEARD_HZ.get(form, RATE)
    assert len(found) / rate == pytest.approx(2.5, abs=PADDING_S.get(form, 0.001))
    middle = found[rate // 2 : 2 * rate]
    assert pitch(middle, rate) == pytest.approx(440, abs=1)
    assert np.abs(middle).max() == pytest.approx(0.4, abs=0.05)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 9000), min_size=1, max_size=6), st.sampled_from(["flac", "wav", "pcm"]))
def test_how_it_is_cut_does_not_matter(lengths: list[int], form: SoundFormat) -> None:
    """Lossless formats give back every sample, whatever the pieces, empty ones too."""
    sound = tone(3)[: sum(lengths)]
    file = sound_file(form, RATE)
    pieces = np.split(sound, np.cumsum(lengths)[:-1])
    content = b"".join([*map(file.feed, pieces), file.end()])

    if len(sound):
        found, _ = heard(form, content)
        assert found * 32_767 == pytest.approx(sound * 32_767, abs=1.6)


def test_a_wav_says_its_length_if_it_is_known() -> None:
    """Else the greatest there is, in both places, as players of streams expect."""
    known = sound_file("wav", RATE, 100).feed(tone(1)[:100])
    with wave.open(io.BytesIO(known)) as file:
        assert (file.getnframes(), file.getframerate(), file.getnchannels()) == (100, RATE, 1)
    assert struct.unpack("<I", known[4:8])[0] == len(known) - 8

    unknown = sound_file("wav", RATE).feed(tone(1))
    assert unknown[4:8] == unknown[40:44] == b"\xff" * 4


@pytest.mark.parametrize("form", FORMATS)
def test_samples_that_are_no_sound_do_no_harm(form: SoundFormat) -> None:
    """Too loud is as loud as can be, and what is no number is silence."""
    bad = np.array([np.nan, np.inf, -np.inf, 9.0, -9.0] * 2000, np.float32)
    file = sound_file(form, RATE)
    found, _ = heard(form, file.feed(bad) + file.end())

    assert np.isfinite(found).all()
    if form in {"wav", "pcm", "flac"}:
        assert found[:5] == pytest.approx([0, 1, -1, 1, -1], abs=0.001)


@pytest.mark.parametrize("tempo", [0.25, 0.5, 0.8, 1.0, 1.5, 2.0, 4.0])
def test_tempo_changes_the_length_and_not_the_pitch(tempo: float) -> None:
    """Over all that a call may ask for."""
    changed = at_tempo(tone(3), RATE, tempo)

    assert len(changed) / RATE == pytest.approx(3 / tempo, abs=0.08)
    assert pitch(changed, RATE) == pytest.approx(440, abs=3)
    assert len(at_tempo(tone(0), RATE, tempo)) == 0
