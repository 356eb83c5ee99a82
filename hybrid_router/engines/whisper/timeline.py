"""What is given to the model of a recording, and where it was there: silence between may be left out."""

from __future__ import annotations

from collections import deque
from itertools import accumulate

import numpy as np
from msgspec import Struct

from hybrid_router.engines.sound.decode import RATE_HZ, Samples


class Stretch(Struct):
    """Samples that follow each other in the recording; `start`: how many come before the first."""

    start: int
    samples: Samples


class Timeline:
    """Stretches that the model has not heard yet, joined."""

    def __init__(self) -> None:
        self._stretches: deque[Stretch] = deque()
        self.count = 0

    def add(self, start: int, samples: Samples) -> None:
        """Append a stretch; none is empty."""
        if len(samples):
            self._stretches.append(Stretch(start, samples))
            self.count += len(samples)

    def joined(self) -> Samples:
        """Everything that is there, as one."""
        if not self._stretches:
            return np.zeros(0, np.float32)
        return np.concatenate([stretch.samples for stretch in self._stretches])

    def drop(self, count: int) -> None:
        """Forget the first so many samples."""
        while self._stretches and count:
            first = self._stretches[0]
            taken = min(count, len(first.samples))
            first.start += taken
            first.samples = first.samples[taken:]
            count -= taken
            self.count -= taken
            if not len(first.samples):
                self._stretches.popleft()

    def clock(self) -> Clock:
        """Times in what `joined` gives → times in the recording."""
        lengths = [len(stretch.samples) for stretch in self._stretches]
        ends = list(accumulate(lengths))
        return Clock(
            starts=tuple(stretch.start for stretch in self._stretches),
            begins=tuple(end - length for end, length in zip(ends, lengths, strict=True)),
        )


class Clock(Struct, frozen=True):
    """See `Timeline.clock`.  `begins`: where each stretch begins in what was joined; `starts`: in the
    recording."""

    starts: tuple[int, ...]
    begins: tuple[int, ...]

    def place(self, time_s: float, *, ends: bool = False) -> int:
        """The number of the stretch that holds a moment; one that `ends` something belongs to the earlier."""
        sample = time_s * RATE_HZ
        for number in range(len(self.begins) - 1, 0, -1):
            begin = self.begins[number]
            if sample > begin or (sample == begin and not ends):
                return number
        return 0

    def told_s(self, time_s: float, place: int) -> float:
        """The moment in the recording, of a stretch that is known, to a hundredth of a second."""
        shift = self.starts[place] - self.begins[place] if self.starts else 0
        return round(float(time_s) + shift / RATE_HZ, 2)
