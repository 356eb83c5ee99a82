"""Transcripts as Workers AI writes them: text with subtitles and words, with segments, or Deepgram's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct
from msgspec.structs import replace

from hybrid_router.backends.errand import Unreadable
from hybrid_router.backends.workers_ai.tasks import results
from hybrid_router.core.event import Batch, Finish, Heard, Segment, Usage, Word

_WHAT = "a transcript"
_TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{2})[.,](\d{1,3})"
_CUE = re.compile(
    rf"{_TIME}[ \t]+-->[ \t]+{_TIME}"
    r"[^\n]*\n(.*?)(?=\n[ \t]*\n|\Z)",
    re.DOTALL | re.ASCII,
)
_ENDS = (".", "?", "!", "。", "？", "！", "…")
_PAUSE_S = 1.0
_LONGEST_WORDS = 60  # in a segment, where nobody ends a sentence


class Transcript(Struct, frozen=True, kw_only=True):
    """What was heard, whole.  `language` is empty where nobody told; so is `duration_s`: the end of the last
    word, where nobody told."""

    segments: tuple[Segment, ...]
    duration_s: float
    language: str = ""
    probability: float = 1.0

    @property
    def text(self) -> str:
        """Everything that was said."""
        return "".join(segment.text for segment in self.segments).strip()


class _Word(Struct, gc=False):
    word: str
    start: float = 0.0
    end: float = 0.0
    confidence: float = 1.0
    punctuated_word: str | None = None


class _Segment(Struct, gc=False):
    text: str
    start: float = 0.0
    end: float = 0.0
    temperature: float | None = None
    avg_logprob: float | None = None
    compression_ratio: float | None = None
    no_speech_prob: float | None = None
    words: list[_Word] | None = None


class _Told(Struct, gc=False):
    language: str | None = None
    language_probability: float | None = None
    duration: float | None = None


class _Whisper(Struct, gc=False):
    text: str
    vtt: str | None = None
    words: list[_Word] | None = None
    segments: list[_Segment] | None = None
    transcription_info: _Told | None = None


class _Alternative(Struct, gc=False):
    transcript: str
    words: list[_Word] | None = None


class _Channel(Struct, gc=False):
    alternatives: list[_Alternative]
    detected_language: str | None = None
    language_confidence: float | None = None


class _Channels(Struct, gc=False):
    channels: list[_Channel]


class _Nova(Struct, gc=False):
    results: _Channels


def events(heard: Transcript, *, words: bool) -> Batch:
    """What a client is told.

    Raises:
        Unreadable: times of words are wanted, and there are none.
    """
    segments = heard.segments
    if not words:
        segments = tuple(replace(each, words=()) if each.words else each for each in segments)
    elif segments and not any(segment.words for segment in segments):
        raise Unreadable("answered without the times of words")
    return [
        Heard(heard.language, heard.duration_s, heard.probability),
        *segments,
        Finish("stop"),
        Usage(0, 0, sound_s=heard.duration_s),
    ]


def whisper(body: bytes) -> Transcript:
    """What Whisper wrote down: segments where there are some, else one for each cue of its subtitles.

    Raises:
        Unreadable: it is no transcript.
    """
    told = results.read(body, _Whisper, _WHAT)
    known = told.transcription_info or _Told()
    words = [_word(word) for word in told.words or ()]
    if told.segments:
        segments = tuple(_segment(segment) for segment in told.segments)
    else:
        segments = tuple(_of_cues(told.text, told.vtt or "", words))
    return Transcript(
        segments=segments,
        duration_s=known.duration or _end_s(segments, words),
        language=(known.language or "").lower(),
        probability=1.0 if known.language_probability is None else known.language_probability,
    )


def nova(body: bytes) -> Transcript:
    """What Nova wrote down, a segment for each sentence.

    Raises:
        Unreadable: it is no transcript.
    """
    channels = results.read(body, _Nova, _WHAT).results.channels
    if not channels or not channels[0].alternatives:
        raise Unreadable(f"answered without {_WHAT}")
    best = channels[0].alternatives[0]
    segments = tuple(_sentences(best.transcript, best.words or []))
    return Transcript(
        segments=segments,
        duration_s=_end_s(segments),
        language=(channels[0].detected_language or "").partition("-")[0].lower(),
        probability=channels[0].language_confidence or 1.0,
    )


def _word(word: _Word) -> Word:
    text = word.punctuated_word or word.word
    return Word(text if text.startswith(" ") else f" {text}", word.start, word.end, word.confidence)


def _segment(told: _Segment) -> Segment:
    """Its figures are Whisper's own; one that is not told is as if it were perfect."""
    return Segment(
        told.text if told.text.startswith(" ") else f" {told.text}",
        told.start,
        told.end,
        temperature=told.temperature or 0.0,
        avg_logprob=told.avg_logprob or 0.0,
        compression_ratio=1.0 if told.compression_ratio is None else told.compression_ratio,
        no_speech_prob=told.no_speech_prob or 0.0,
        words=tuple(_word(word) for word in told.words or ()),
    )


def _of_cues(text: str, vtt: str, words: list[Word]) -> Iterator[Segment]:
    """A segment for each cue.  Together they hold `text` and all of its words, to the last letter."""
    cues = [_cue(found) for found in _CUE.finditer(vtt.replace("\r\n", "\n"))]
    cues = cues or ([("", 0.0, _end_s((), words))] if text.strip() else [])
    at, taken = 0, 0
    for number, (said, start_s, end_s) in enumerate(cues):
        last = number == len(cues) - 1
        end = len(text) if last else _after(text, said, at)
        until = len(words) if last else _until(words, taken, end_s)
        piece = text[at:end] if end > at else f" {said}"
        yield Segment(piece, start_s, end_s, words=tuple(words[taken:until]))
        at, taken = max(at, end), until


def _cue(found: re.Match[str]) -> tuple[str, float, float]:
    times, said = found.groups()[:8], found[9]
    return " ".join(said.split()), _seconds(times[:4]), _seconds(times[4:])


def _seconds(time: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, part = (digits or "0" for digits in time)
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(part.ljust(3, "0")) / 1000


def _after(text: str, said: str, at: int) -> int:
    """Where a cue ends in the text; where it began, if it is not there."""
    found = text.find(said, at)
    return at if found < 0 else found + len(said)


def _until(words: list[Word], taken: int, end_s: float) -> int:
    """Up to which place words begin before a cue ends."""
    return next((at for at in range(taken, len(words)) if words[at].start_s >= end_s), len(words))


def _sentences(transcript: str, told: list[_Word]) -> Iterator[Segment]:
    written = transcript.split()
    if len(written) == len(told):  # as the transcript writes them: with capitals and full stops
        words = [
            Word(f" {text}", one.start, one.end, one.confidence)
            for text, one in zip(written, told, strict=True)
        ]
    else:
        words = [_word(word) for word in told]
    if not words and transcript.strip():
        yield Segment(f" {transcript.strip()}", 0.0, 0.0)
    for sentence in _divided(words):
        text = "".join(word.text for word in sentence)
        yield Segment(text, sentence[0].start_s, sentence[-1].end_s, words=tuple(sentence))


def _divided(words: list[Word]) -> Iterator[list[Word]]:
    """Words by sentence; a long pause ends one too."""
    sentence: list[Word] = []
    for word in words:
        if sentence and (
            sentence[-1].text.endswith(_ENDS)
            or word.start_s - sentence[-1].end_s > _PAUSE_S
            or len(sentence) >= _LONGEST_WORDS
        ):
            yield sentence
            sentence = []
        sentence.append(word)
    if sentence:
        yield sentence


def _end_s(segments: Iterable[Segment], words: Iterable[Word] = ()) -> float:
    return max([0.0, *(segment.end_s for segment in segments), *(word.end_s for word in words)])
