"""Recordings: bytes, integers or base64 in, transcripts out.

Source: the contract's table of tasks, and `whisper-large-v3-turbo` in the worker types.
"""

from __future__ import annotations

import re
from typing import Any, Literal, Unpack

import msgspec
from msgspec import Struct

from hybrid_router.api.calls import Chunks
from hybrid_router.api.openai import sender as senders
from hybrid_router.api.openai.sender import Sender
from hybrid_router.api.workers_ai.form import Given, Reply
from hybrid_router.api.workers_ai.forms import fields
from hybrid_router.api.workers_ai.refusal import wrapped
from hybrid_router.catalogue.families import Family
from hybrid_router.core.asks import Classification, Transcription
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import CallRefused, StreamBroken
from hybrid_router.core.event import Batch, Finish, Heard, Label, Segment, Usage, Word
from hybrid_router.core.upload import Upload

COMPLETE, INCOMPLETE = "complete", "incomplete"
_HALF = 0.5
_THOUSANDTHS = 3
_TRUE = frozenset({"1", "true"})


class Heeded(Struct, frozen=True, kw_only=True):
    """All that was heard."""

    heard: Heard
    segments: tuple[Segment, ...]
    duration_s: float

    @property
    def text(self) -> str:
        """Everything that was said."""
        return "".join(segment.text for segment in self.segments).strip()

    @property
    def words(self) -> list[Word]:
        """The single words, as far as the model tells their times."""
        return [word for segment in self.segments for word in segment.words]


class _Plain:
    """What the forms here have in common: the whole answer is one document."""

    def chunks(self, given: Given, call: Call) -> Chunks | None:
        """There is no stream."""
        return None

    def media_type(self, given: Given, call: Call) -> str:
        """Of the document."""
        return "application/json"


class _AudioIntegers(Struct, frozen=True):
    audio: list[int]


class SoundBytes(_Plain):
    """Whisper: a body of sound, or a list of its bytes → text, words and subtitles."""

    def call(self, given: Given, known: Family, **sender: Unpack[Sender]) -> Call:
        """See `form.Form`."""
        if given.content is not None:
            return _transcription(
                given.model, given.content, Transcription(words=True), extra={}, sender=sender
            )
        asked, extra = fields.read(given, _AudioIntegers)
        content = fields.integers(asked.audio, "audio")
        return _transcription(given.model, content, Transcription(words=True), extra=extra, sender=sender)

    def reply(self, given: Given, call: Call, events: Batch) -> Reply:
        """See `form.Form`."""
        return _enveloped(_document(folded(events)))


class _Turbo(Struct, frozen=True, kw_only=True):
    audio: str
    task: Literal["transcribe", "translate"] = "transcribe"
    language: str | None = None
    vad_filter: bool | None = None
    initial_prompt: str | None = None


class SoundBase64(_Plain):
    """Whisper large v3 turbo: base64 in JSON → the same, and the segments."""

    def call(self, given: Given, known: Family, **sender: Unpack[Sender]) -> Call:
        """See `form.Form`."""
        asked, extra = fields.read(given, _Turbo)
        ask = Transcription(
            language=asked.language,
            translates=asked.task == "translate",
            words=True,
            voice_only=asked.vad_filter,
        )
        content = fields.text(asked.audio, "audio")
        prompts = (asked.initial_prompt,) if asked.initial_prompt else ()
        return _transcription(given.model, content, ask, extra=extra, sender=sender, prompts=prompts)

    def reply(self, given: Given, call: Call, events: Batch) -> Reply:
        """See `form.Form`."""
        all_of_it = folded(events)
        about = {
            "language": all_of_it.heard.language,
            "language_probability": all_of_it.heard.probability,
            "duration": all_of_it.duration_s,
            "duration_after_vad": all_of_it.duration_s,
        }
        segments = [_segment(segment) for segment in all_of_it.segments]
        return _enveloped({"transcription_info": about, **_document(all_of_it), "segments": segments})


class SoundNova(_Plain):
    """Deepgram's nova: a body of sound, options in the address → channels with alternatives."""

    def call(self, given: Given, known: Family, **sender: Unpack[Sender]) -> Call:
        """See `form.Form`."""
        if given.content is None:
            raise CallRefused("the body is the recording itself, with its Content-Type", param="/")
        options = dict(given.query)
        finds = options.pop("detect_language", "").lower() in _TRUE
        language = options.pop("language", None)
        ask = Transcription(language=None if finds else _plain_language(language), words=True)
        return _transcription(given.model, given.content, ask, extra=options, sender=sender)

    def reply(self, given: Given, call: Call, events: Batch) -> Reply:
        """See `form.Form`."""
        all_of_it = folded(events)
        words = [
            {
                "word": word.text.strip(),
                "start": word.start_s,
                "end": word.end_s,
                "confidence": word.probability,
            }
            for word in all_of_it.words
        ]
        sure = [word.probability for word in all_of_it.words]
        alternative = {
            "transcript": all_of_it.text,
            "confidence": sum(sure) / len(sure) if sure else all_of_it.heard.probability,
            "words": words,
        }
        return _enveloped({"results": {"channels": [{"alternatives": [alternative]}]}})


class _TurnAudio(Struct, frozen=True, kw_only=True):
    audio: str
    dtype: Literal["uint8", "float32", "float64"] = "uint8"


class Turn(_Plain):
    """Smart turn: has the speaker finished?  Asked as a recording to be put into one of two classes."""

    def call(self, given: Given, known: Family, **sender: Unpack[Sender]) -> Call:
        """See `form.Form`."""
        asked, extra = fields.read(given, _TurnAudio)
        return Call(
            operation=Operation.CLASSIFY,
            alias=given.model,
            ask=Classification(top_k=2),
            uploads=(fields.text(asked.audio, "audio", "audio/wav"),),
            **senders.fields(sender, extra | ({"dtype": asked.dtype} if asked.dtype != "uint8" else {})),
        )

    def reply(self, given: Given, call: Call, events: Batch) -> Reply:
        """See `form.Form`."""
        _check_whole(events)
        scores = {event.label.lower(): event.score for event in events if isinstance(event, Label)}
        if COMPLETE not in scores and INCOMPLETE not in scores:
            raise StreamBroken("the answer does not say whether the turn is complete")
        sure = scores.get(COMPLETE, 1.0 - scores.get(INCOMPLETE, 0.0))
        return _enveloped({"is_complete": sure > _HALF, "probability": sure})


def _transcription(
    model: str,
    content: Upload,
    ask: Transcription,
    *,
    extra: dict[str, Any],
    sender: Sender,
    prompts: tuple[str, ...] = (),
) -> Call:
    return Call(
        operation=Operation.TRANSCRIBE,
        alias=model,
        ask=ask,
        prompts=prompts,
        uploads=(content,),
        **senders.fields(sender, extra),
    )


def folded(events: Batch) -> Heeded:
    """An answer's events together.

    Raises:
        StreamBroken: it is not whole, or does not say what was heard.
    """
    _check_whole(events)
    heard = next((event for event in events if isinstance(event, Heard)), None)
    if heard is None:
        raise StreamBroken("the answer does not say what was heard")
    counted_s = next((event.sound_s for event in events if isinstance(event, Usage)), 0.0)
    segments = tuple(event for event in events if isinstance(event, Segment))
    return Heeded(heard=heard, segments=segments, duration_s=heard.duration_s or counted_s)


def subtitles(segments: tuple[Segment, ...]) -> str:
    """WebVTT, a cue for each segment."""
    cues = (
        f"{_clock(segment.start_s)} --> {_clock(segment.end_s)}\n{_line(segment.text)}\n\n"
        for segment in segments
    )
    return "WEBVTT\n\n" + "".join(cues)


def _check_whole(events: Batch) -> None:
    if not any(isinstance(event, Finish) for event in events):
        raise StreamBroken("the answer ended without a finish reason")


def _document(all_of_it: Heeded) -> dict[str, Any]:
    """The part that both kinds of Whisper answer."""
    words = [
        {"word": word.text.strip(), "start": word.start_s, "end": word.end_s} for word in all_of_it.words
    ]
    return {
        "text": all_of_it.text,
        "word_count": len(words) or len(all_of_it.text.split()),
        "words": words,
        "vtt": subtitles(all_of_it.segments),
    }


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        "start": segment.start_s,
        "end": segment.end_s,
        "text": segment.text,
        "temperature": segment.temperature,
        "avg_logprob": segment.avg_logprob,
        "compression_ratio": segment.compression_ratio,
        "no_speech_prob": segment.no_speech_prob,
        "words": [{"word": word.text, "start": word.start_s, "end": word.end_s} for word in segment.words],
    }


def _enveloped(result: Any) -> Reply:
    return Reply(content=msgspec.json.encode(wrapped(result)))


def _line(text: str) -> str:
    """A cue's text: on one line, and never what divides the times."""
    return re.sub(r"\s+", " ", text).strip().replace("-->", "->")


def _clock(time_s: float) -> str:
    """00:01:02.345."""
    minutes, rest = divmod(round(time_s * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}.{rest % 1000:0{_THOUSANDTHS}}"


def _plain_language(told: str | None) -> str | None:
    """`en-US` as `en`; `multi` as: find out."""
    return None if told in (None, "", "multi") else str(told).partition("-")[0].lower()
