"""Transcripts: events → JSON, plain text, subtitles, or a stream of events."""

from __future__ import annotations

from typing import Any

import msgspec

from hybrid_router.api import responses, transcript
from hybrid_router.api.openai.transcription_request import Format, Granularity, TranscriptionRequest
from hybrid_router.api.transcript import Transcript
from hybrid_router.core import language_names as languages
from hybrid_router.core.asks import Transcription
from hybrid_router.core.event import Batch, Finish, Segment

_TEXT = "text/plain; charset=utf-8"
_CONTENT_TYPES: dict[Format, str] = {"text": _TEXT, "srt": _TEXT, "vtt": "text/vtt; charset=utf-8"}
_ENGLISH = "en"
_DECIMALS = 3


def content_type(asked: TranscriptionRequest) -> str:
    """Of the document that `document` gives."""
    return _CONTENT_TYPES.get(asked.format, responses.JSON)


def document(asked: TranscriptionRequest, events: Batch) -> bytes:
    """The transcript in the form that the client wants.

    Raises:
        StreamBroken: the answer does not say what was heard.
    """
    heard = transcript.of(events)
    match asked.format:
        case "text":
            return f"{heard.text}\n".encode()
        case "srt":
            return transcript.srt(heard.segments).encode()
        case "vtt":
            return transcript.vtt(heard.segments).encode()
        case "verbose_json":
            return msgspec.json.encode(_verbose(asked, heard))
        case _:
            return msgspec.json.encode({"text": heard.text, "usage": _usage(heard)})


def _usage(heard: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": _duration_s(heard)}


def _duration_s(heard: Transcript) -> float:
    return round(heard.counted_s or heard.heard.duration_s, _DECIMALS)


def _verbose(asked: TranscriptionRequest, heard: Transcript) -> dict[str, Any]:
    translates = isinstance(asked.call.ask, Transcription) and asked.call.ask.translates
    told: dict[str, Any] = {
        "task": "translate" if translates else "transcribe",
        "language": languages.name(_ENGLISH if translates else heard.heard.language),
        "duration": _duration_s(heard),
        "text": heard.text,
    }
    return told | _timed(asked.granularities, heard) | {"usage": _usage(heard)}


def _timed(granularities: frozenset[Granularity], heard: Transcript) -> dict[str, Any]:
    """What the client wants times of."""
    told: dict[str, Any] = {}
    if "segment" in granularities:
        told["segments"] = [_segment(number, segment) for number, segment in enumerate(heard.segments)]
    if "word" in granularities:
        told["words"] = [
            {"word": word.text.strip(), "start": word.start_s, "end": word.end_s} for word in heard.words
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
