"""Transcripts of recordings, in their own language or in English."""

from __future__ import annotations

from msgspec import Struct

from hybrid_router.backends.errand import Errand, Reader
from hybrid_router.backends.forms import File, FormBody
from hybrid_router.backends.openai.chat import Manner, extra
from hybrid_router.backends.openai.reply import TokenCounts, read
from hybrid_router.backends.readers import Whole
from hybrid_router.core import language_names
from hybrid_router.core.asks import Transcription
from hybrid_router.core.call import Call
from hybrid_router.core.errors import Inexpressible
from hybrid_router.core.event import Batch, Finish, Heard, Segment, Usage, Word

_TEXT_ALONE = "gpt-"  # OpenAI's models that are no Whisper tell no times


class _Word(Struct, gc=False):
    word: str
    start: float = 0.0
    end: float = 0.0


class _Segment(Struct, gc=False):
    text: str
    start: float = 0.0
    end: float = 0.0
    seek: int | None = None
    temperature: float | None = None
    avg_logprob: float | None = None
    compression_ratio: float | None = None
    no_speech_prob: float | None = None


class _Transcript(Struct):
    text: str
    language: str | None = None
    duration: float | str | None = None
    segments: list[_Segment] | None = None
    words: list[_Word] | None = None
    usage: TokenCounts | None = None


def transcript(call: Call, model: str, manner: Manner) -> list[tuple[Errand, Reader]]:
    """One form with the recording."""
    ask = call.ask if isinstance(call.ask, Transcription) else Transcription()
    with_times = not model.startswith(_TEXT_ALONE)
    if ask.words and not with_times:
        raise Inexpressible(f"{model} tells no times of words")
    upload = call.uploads[0]
    body = FormBody(
        _fields(call, model, ask, manner, with_times=with_times),
        [File("file", upload, upload.name or "speech.mp3")],
    )
    path = "audio/translations" if ask.translates else "audio/transcriptions"
    errand = Errand(path=path, body=body, media_type=body.media_type)
    return [(errand, Whole(lambda told: _heard(told, ask)))]


def _fields(
    call: Call, model: str, ask: Transcription, manner: Manner, *, with_times: bool
) -> list[tuple[str, str]]:
    optional = {
        "language": None if ask.translates else ask.language,
        "prompt": next((prompt for prompt in call.prompts if isinstance(prompt, str)), None),
        "temperature": None if ask.temperature is None else f"{ask.temperature:g}",
        "vad_filter": None if ask.voice_only is None or manner.strict else str(ask.voice_only).lower(),
    }
    fields = [("model", model), ("response_format", "verbose_json" if with_times else "json")]
    fields += [(name, value) for name, value in optional.items() if value]
    if with_times and ask.words:
        fields += [("timestamp_granularities[]", each) for each in ("word", "segment")]
    return fields + [(name, str(value)) for name, value in extra(call, manner).items()]


def _heard(body: bytes, ask: Transcription) -> Batch:
    """What was heard; words are given to the segment in which they begin."""
    told = read(body, _Transcript)
    duration_s = _duration_s(told)
    language = language_names.code(told.language or ask.language or "")
    segments = told.segments or ([_Segment(told.text, 0.0, duration_s)] if told.text else [])
    words = list(told.words or ())
    events: Batch = [Heard(language, duration_s)]
    for place, each in enumerate(segments):
        until_s = segments[place + 1].start if place + 1 < len(segments) else float("inf")
        count = next((i for i, word in enumerate(words) if word.start >= until_s), len(words))
        events.append(_segment(each, words[:count] if ask.words else []))
        del words[:count]
    usage = told.usage.usage if told.usage is not None else Usage(0, 0)
    sound_s = usage.sound_s or duration_s
    counted = Usage(usage.prompt_tokens, usage.completion_tokens, sound_s=sound_s)
    return [*events, Finish("stop"), counted]


def _duration_s(told: _Transcript) -> float:
    """As told; else where the last segment ends."""
    try:
        told_s = float(told.duration or 0.0)
    except ValueError:
        told_s = 0.0
    counted_s = (told.usage.seconds if told.usage is not None else None) or 0.0
    return told_s or counted_s or max((each.end for each in told.segments or ()), default=0.0)


def _segment(each: _Segment, words: list[_Word]) -> Segment:
    return Segment(
        each.text,
        each.start,
        each.end,
        seek=each.seek or 0,
        temperature=each.temperature or 0.0,
        avg_logprob=each.avg_logprob or 0.0,
        compression_ratio=1.0 if each.compression_ratio is None else each.compression_ratio,
        no_speech_prob=each.no_speech_prob or 0.0,
        words=tuple(Word(f" {word.word.strip()}", word.start, word.end) for word in words),
    )
