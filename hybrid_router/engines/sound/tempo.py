"""Faster or slower speech at the same pitch."""

from __future__ import annotations

import math

import av
import numpy as np
from av.error import BlockingIOError as NothingYet
from av.error import EOFError as NothingMore

from hybrid_router.engines.sound.encode import Floats

_LEAST, _MOST = 0.5, 2.0  # beyond these atempo leaves sound out, or does nothing


def at_tempo(samples: Floats, rate: int, tempo: float) -> Floats:
    """The same words in 1/`tempo` of the time, by ffmpeg's `atempo`; 1.0 changes nothing.

    Args:
        samples: mono, -1 to 1.
        rate: samples a second.
        tempo: above 0.
    """
    if tempo == 1.0 or not len(samples):
        return samples
    if not _LEAST <= tempo <= _MOST:
        half = math.sqrt(tempo)
        return at_tempo(at_tempo(samples, rate, half), rate, half)
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=rate, format="flt", layout="mono")
    change = graph.add("atempo", str(tempo))
    sink = graph.add("abuffersink")
    source.link_to(change)
    change.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(samples[None, :].astype(np.float32), format="flt", layout="mono")
    frame.sample_rate = rate
    graph.push(frame)
    graph.push(None)
    return np.concatenate([np.zeros(0, np.float32), *_pulled(graph)])


def _pulled(graph: av.filter.Graph) -> list[Floats]:
    """All that comes out."""
    pieces: list[Floats] = []
    while True:
        try:
            frame = graph.pull()
        except (NothingYet, NothingMore):
            return pieces
        if isinstance(frame, av.AudioFrame):
            pieces.append(frame.to_ndarray()[0])
