"""A whole transcript, and its subtitles: what all dialects tell of a recording."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from hybrid_router.core.errors import StreamBroken
from hybrid_router.core.event import Batch, Heard, Segment, Usage, Word


class Transcript(Struct, frozen=True, kw_only=True):
    """What was heard; `counted_s`: seconds of sound as they are billed, 0 if nobody counted."""

    heard: Heard
    segments: tuple[Segment, ...]
    counted_s: float

    @property
    def text(self) -> str:
        """Everything that was said."""
        return "".join(segment.text for segment in self.segments).strip()

    @property
    def words(self) -> list[Word]:
        """The single words, as far as the model tells their times."""
        return [word for segment in self.segments for word in segment.words]


def of(events: Batch) -> Transcript:
    """An answer's events together.

    Raises:
        StreamBroken: they do not say what was heard.
    """
    heard = next((event for event in events if isinstance(event, Heard)), None)
    if heard is None:
        raise StreamBroken("the answer does not say what was heard")
    return Transcript(
        heard=heard,
        segments=tuple(event for event in events if isinstance(event, Segment)),
        counted_s=next((event.sound_s for event in events if isinstance(event, Usage)), 0.0),
    )


def srt(segments: Iterable[Segment]) -> str:
    """SubRip, a numbered cue for each segment."""
    return "".join(f"{number}\n{_cue(segment, ',')}" for number, segment in enumerate(segments, 1))


def vtt(segments: Iterable[Segment]) -> str:
    """WebVTT, a cue for each segment."""
    return "WEBVTT\n\n" + "".join(_cue(segment, ".") for segment in segments)


def _cue(segment: Segment, point: str) -> str:
    """Times and text: on one line, and never with what divides the times."""
    text = " ".join(segment.text.split()).replace("-->", "->")
    return f"{_clock(segment.start_s, point)} --> {_clock(segment.end_s, point)}\n{text}\n\n"


def _clock(time_s: float, point: str) -> str:
    """00:01:02,345."""
    minutes, rest = divmod(round(time_s * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"
