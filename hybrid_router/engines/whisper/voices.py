"""Where somebody speaks: Silero's voice activity detection, as faster-whisper brings it."""

from __future__ import annotations

import math
from typing import NamedTuple

from faster_whisper.vad import VadOptions, get_speech_timestamps, get_vad_model

from hybrid_router.engines.sound.decode import Samples


class Spoken(NamedTuple):
    """A stretch of samples in which somebody speaks."""

    start: int
    end: int


def prepare() -> None:
    """Load the detector: later this process may open no files."""
    get_vad_model()


def voices(samples: Samples) -> list[Spoken]:
    """The stretches with speech, in their order, each with a little silence around it.

    Pauses of less than two seconds are no gaps.
    """
    found = get_speech_timestamps(samples, VadOptions(max_speech_duration_s=math.inf))
    return [Spoken(int(one["start"]), int(one["end"])) for one in found if one["end"] > one["start"]]
