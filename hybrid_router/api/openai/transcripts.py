"""Transcripts: events → JSON, plain text, subtitles, or a stream of events."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from hybrid_router.api import responses
from hybrid_router.api.openai.transcription_request import Format, Granularity, TranscriptionRequest
from hybrid_router.core import language_names as languages
from hybrid_router.core.asks import Transcription
from hybrid_router.core.errors import StreamBroken
from hybrid_router.core.event import Batch, Finish, Heard, Segment, Usage

_TEXT = "text/plain; charset=utf-8"
_CONTENT_TYPES: dict[Format, str] = {"text": _TEXT, "srt": _TEXT, "vtt": "text/vtt; charset=utf-8"}
_ENGLISH = "en"
_DECIMALS = 3


class Transcript(Struct, frozen=True):
    """What was heard, whole."""

    language: str
    duration_s: float
    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        """Everything that was said."""
        return "".join(segment.text for segment in self.segments).strip()


def content_type(asked: TranscriptionRequest) -> str:
    """Of the document that `document` gives."""
    return _CONTENT_TYPES.get(asked.format, responses.JSON)


def document(asked: TranscriptionRequest, events: Batch) -> bytes:
    """The transcript in the form that the client wants.

    Raises:
        StreamBroken: the answer does not say what was heard.
    """
    heard = _folded(events)
    match asked.format:
        case "text":
            return f"{heard.text}\n".encode()
        case "srt":
            return _srt(heard).encode()
        case "vtt":
            return _vtt(heard).encode()
        case "verbose_json":
            return msgspec.json.encode(_verbose(asked, heard))
        case _:
            return msgspec.json.encode({"text": heard.text, "usage": _usage(heard)})


def _folded(events: Batch) -> Transcript:
    heard = next((event for event in events if isinstance(event, Heard)), None)
    if heard is None:
        raise StreamBroken("the answer does not say what was heard")
    counted_s = next((event.sound_s for event in events if isinstance(event, Usage)), 0.0)
    segments = tuple(event for event in events if isinstance(event, Segment))
    return Transcript(heard.language, counted_s or heard.duration_s, segments)


def _usage(heard: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": round(heard.duration_s, _DECIMALS)}


def _verbose(asked: TranscriptionRequest, heard: Transcript) -> dict[str, Any]:
    translates = isinstance(asked.call.ask, Transcription) and asked.call.ask.translates
    told: dict[str, Any] = {
        "task": "translate" if translates else "transcribe",
        "language": languages.name(_ENGLISH if translates else heard.language),
        "duration": round(heard.duration_s, _DECIMALS),
        "text": heard.text,
    }
    return told | _timed(asked.granularities, heard.segments) | {"usage": _usage(heard)}


def _timed(granularities: frozenset[Granularity], segments: tuple[Segment, ...]) -> dict[str, Any]:
    """What the client wants times of."""
    told: dict[str, Any] = {}
    if "segment" in granularities:
        told["segments"] = [_segment(number, segment) for number, segment in enumerate(segments)]
    if "word" in granularities:
        told["words"] = [
            {"word": word.text.strip(), "start": word.start_s, "end": word.end_s}
            for segment in segments
            for word in segment.words
        ]
    return told


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    return {
        "id": number,
        "seek": segment.seek,
        "start": segment.start_s,
        "end": segment.end_s,
        "text": segment.text,
        "tokens": segment.tokens,
        "temperature": segment.temperature,
        "avg_logprob": segment.avg_logprob,
        "compression_ratio": segment.compression_ratio,
        "no_speech_prob": segment.no_speech_prob,
    }


def _srt(heard: Transcript) -> str:
    return "".join(
        f"{number}\n{_clock(segment.start_s, ',')} --> {_clock(segment.end_s, ',')}\n{_line(segment)}\n\n"
        for number, segment in enumerate(heard.segments, 1)
    )


def _vtt(heard: Transcript) -> str:
    return "WEBVTT\n\n" + "".join(
        f"{_clock(segment.start_s, '.')} --> {_clock(segment.end_s, '.')}\n{_line(segment)}\n\n"
        for segment in heard.segments
    )


def _line(segment: Segment) -> str:
    """A subtitle's text: on one line, and never what divides the times."""
    return " ".join(segment.text.split()).replace("-->", "->")


def _clock(time_s: float, point: str) -> str:
    """00:01:02,345."""
    thousandths = round(time_s * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"


class TranscriptChunks:
    """The stream: `transcript.text.delta` for each segment, then `transcript.text.done`.

    See `api.calls.Chunks`.
    """

    def __init__(self) -> None:
        self._text = ""
        self._whole = False

    @property
    def whole(self) -> bool:
        return self._whole

    def encode(self, batch: Batch) -> bytes:
        out = []
        for event in batch:
            if isinstance(event, Segment):
                delta = event.text if self._text else event.text.lstrip()
                self._text += delta
                out.append(_event({"type": "transcript.text.delta", "delta": delta}))
            elif isinstance(event, Finish):
                self._whole = True
        return b"".join(out)

    def end(self) -> bytes:
        done = {"type": "transcript.text.done", "text": self._text.rstrip()}
        return _event(done) + b"data: [DONE]\n\n"


def _event(fields: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(fields) + b"\n\n"
