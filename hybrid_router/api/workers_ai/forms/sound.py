"""Recordings: bytes, integers or base64 in, transcripts out.

Source: the contract's table of tasks, and `whisper-large-v3-turbo` in the worker types.
"""

from __future__ import annotations

from typing import Any, Literal, Unpack

from msgspec import Struct

from hybrid_router.api import transcript
from hybrid_router.api.openai import sender as senders
from hybrid_router.api.openai.reply import check_whole
from hybrid_router.api.openai.sender import Sender
from hybrid_router.api.transcript import Transcript
from hybrid_router.api.workers_ai.form import Given, Reply
from hybrid_router.api.workers_ai.forms import fields
from hybrid_router.api.workers_ai.forms.plain import Plain, enveloped
from hybrid_router.core.asks import Classification, Transcription
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import CallRefused, StreamBroken
from hybrid_router.core.event import Batch, Label, Segment
from hybrid_router.core.upload import Upload

COMPLETE, INCOMPLETE = "complete", "incomplete"
_HALF = 0.5
_TRUE = frozenset({"1", "true"})
_WORDS = Transcription(words=True)


class _AudioIntegers(Struct, frozen=True):
    audio: list[int]


class SoundBytes(Plain):
    """Whisper: a body of sound, or a list of its bytes → text, words and subtitles."""

    def call(self, given: Given, **sender: Unpack[Sender]) -> Call:
        """See `form.Form`."""
        if given.content is not None:
            return _transcription(given.model, given.content, _WORDS, senders.fields(sender, {}))
        asked, extra = fields.read(given, _AudioIntegers)
        sent = senders.fields(sender, extra)
        return _transcription(given.model, fields.integers(asked.audio, "audio"), _WORDS, sent)

    def reply(self, given: Given, call: Call, events: Batch) -> Reply:
        """See `form.Form`."""
        return enveloped(_document(folded(events)))


class _Turbo(Struct, frozen=True, kw_only=True):
    audio: str
    task: Literal["transcribe", "translate"] = "transcribe"
    language: str | None = None
    vad_filter: bool | None = None
    initial_prompt: str | None = None


class SoundBase64(Plain):
    """Whisper large v3 turbo: base64 in JSON → the same, and the segments."""

    def call(self, given: Given, **sender: Unpack[Sender]) -> Call:
        """See `form.Form`."""
        asked, extra = fields.read(given, _Turbo)
        ask = Transcription(
            language=asked.language,
            translates=asked.task == "translate",
            words=True,
            voice_only=asked.vad_filter,
        )
        sent = senders.fields(sender, extra)
        prompts = (asked.initial_prompt,) if asked.initial_prompt else ()
        return _transcription(given.model, fields.text(asked.audio, "audio"), ask, sent, prompts)

    def reply(self, given: Given, call: Call, events: Batch) -> Reply:
        """See `form.Form`."""
        all_of_it = folded(events)
        heard = all_of_it.heard
        duration_s = heard.duration_s or all_of_it.counted_s
        about = {
            "language": heard.language,
            "language_probability": heard.probability,
            "duration": duration_s,
            "duration_after_vad": duration_s,
        }
        segments = [_segment(segment) for segment in all_of_it.segments]
        return enveloped({"transcription_info": about, **_document(all_of_it), "segments": segments})


class SoundNova(Plain):
    """Deepgram's nova: a body of sound, options in the address → channels with alternatives."""

    def call(self, given: Given, **sender: Unpack[Sender]) -> Call:
        """See `form.Form`."""
        if given.content is None:
            raise CallRefused("the body is the recording itself, with its Content-Type", param="/")
        options = dict(given.query)
        finds = options.pop("detect_language", "").lower() in _TRUE
        language = options.pop("language", None)
        ask = Transcription(language=None if finds else _plain_language(language), words=True)
        return _transcription(given.model, given.content, ask, senders.fields(sender, options))

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
        return enveloped({"results": {"channels": [{"alternatives": [alternative]}]}})


class _TurnAudio(Struct, frozen=True, kw_only=True):
    audio: str
    dtype: Literal["uint8", "float32", "float64"] = "uint8"


class Turn(Plain):
    """Smart turn: has the speaker finished?  Asked as a recording to be put into one of two classes."""

    def call(self, given: Given, **sender: Unpack[Sender]) -> Call:
        """See `form.Form`."""
        asked, extra = fields.read(given, _TurnAudio)
        sent = senders.fields(sender, extra | ({"dtype": asked.dtype} if asked.dtype != "uint8" else {}))
        return Call(
            operation=Operation.CLASSIFY,
            alias=given.model,
            ask=Classification(top_k=2),
            uploads=(fields.text(asked.audio, "audio", "audio/wav"),),
            **sent,
        )

    def reply(self, given: Given, call: Call, events: Batch) -> Reply:
        """See `form.Form`."""
        check_whole(events)
        scores = {event.label.lower(): event.score for event in events if isinstance(event, Label)}
        if COMPLETE not in scores and INCOMPLETE not in scores:
            raise StreamBroken("the answer does not say whether the turn is complete")
        sure = scores.get(COMPLETE, 1.0 - scores.get(INCOMPLETE, 0.0))
        return enveloped({"is_complete": sure > _HALF, "probability": sure})


def _transcription(
    model: str, content: Upload, ask: Transcription, sent: dict[str, Any], prompts: tuple[str, ...] = ()
) -> Call:
    return Call(
        operation=Operation.TRANSCRIBE, alias=model, ask=ask, prompts=prompts, uploads=(content,), **sent
    )


def folded(events: Batch) -> Transcript:
    """An answer's events together.

    Raises:
        StreamBroken: it is not whole, or does not say what was heard.
    """
    check_whole(events)
    return transcript.of(events)


def _document(all_of_it: Transcript) -> dict[str, Any]:
    """The part that both kinds of Whisper answer."""
    words = [
        {"word": word.text.strip(), "start": word.start_s, "end": word.end_s} for word in all_of_it.words
    ]
    return {
        "text": all_of_it.text,
        "word_count": len(words) or len(all_of_it.text.split()),
        "words": words,
        "vtt": transcript.vtt(all_of_it.segments),
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


def _plain_language(told: str | None) -> str | None:
    """`en-US` as `en`; `multi` as: find out."""
    return None if told in (None, "", "multi") else str(told).partition("-")[0].lower()
