"""faster-whisper's model, made to stop where the samples at hand end before the recording does."""

from __future__ import annotations

from typing import Any

import numpy as np
from faster_whisper import WhisperModel
from numpy.typing import NDArray


class Unfinished(Exception):
    """The next 30 seconds are not all there yet.

    Attributes:
        frames_count: so many hundredths of a second are, which the model has not heard.
    """

    def __init__(self, frames_count: int) -> None:
        super().__init__(frames_count)
        self.frames_count = frames_count


class Model(WhisperModel):  # type: ignore[misc]
    """Hears a recording of any length in bounded memory, as if it were in memory at once.

    Whisper hears 30 seconds at a time, and goes on where the last whole sentence among them ended.  So
    samples can be handed over a few minutes at a time and nothing is lost or heard in halves, if the last
    30 seconds of each part are left to the next: that part begins where the model would have gone on.

    `more`: what comes is not the last part.  Then `Unfinished` ends it.
    """

    more = False

    def encode(self, features: NDArray[np.float32]) -> Any:
        """As the library does, which fills up with zeros what is shorter than 30 seconds.

        Raises:
            Unfinished: it is shorter, and `more` comes.
        """
        if self.more:
            # Of sound, not even silence gives zeros: its logarithm is far below.
            heard = np.flatnonzero(features.any(axis=0))
            frames_count = int(heard[-1]) + 1 if len(heard) else 0
            if frames_count < features.shape[-1]:
                raise Unfinished(frames_count)
        return super().encode(features)
