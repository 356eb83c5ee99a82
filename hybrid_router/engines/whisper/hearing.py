"""One recording, heard from beginning to end: a few minutes of it in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy

from faster_whisper.transcribe import Segment as Found
from faster_whisper.transcribe import Word as FoundWord
from msgspec import Struct

from hybrid_router.core.event import Batch, Heard, Progress, Segment, Word
from hybrid_router.engines.sound.decode import RATE_HZ, Recording, Samples
from hybrid_router.engines.whisper.model import Model, Unfinished
from hybrid_router.engines.whisper.timeline import Clock, Timeline
from hybrid_router.engines.whisper.voices import voices

# What is handed to the model at a time: a window costs about a second of preparation, and 60 MB of memory.
WINDOW_S = 120
_FRAMES_A_SECOND = 100
_FRAME_SAMPLES = RATE_HZ // _FRAMES_A_SECOND
_STEP = 0.2  # between the temperatures that are tried
# Whisper's own: a text written at a higher temperature leads the next astray.
_FORGET_ABOVE = 0.5
_MOST_REMEMBERED = 224  # tokens of what was said before: the model looks at no more


class Wish(Struct, frozen=True, kw_only=True):
    """How to hear it.  `language` None: find out; `prompt`: what was said before."""

    language: str | None
    prompt: str
    temperature: float
    beam_size: int
    translates: bool
    words: bool
    voice_only: bool

    @property
    def temperatures(self) -> tuple[float, ...]:
        """This one, and hotter ones for where the model repeats itself or guesses."""
        count = int((1.0 - self.temperature) / _STEP + 1e-6) + 1
        return tuple(round(self.temperature + _STEP * step, 2) for step in range(count))


class Hearing:
    """Hears one recording.  `tokens_count`: of the text so far."""

    def __init__(self, model: Model, recording: Recording, wish: Wish, *, window_s: float = WINDOW_S) -> None:
        self._model = copy(model)  # the weights are shared; `more` is this recording's alone
        self._recording = recording
        self._wish = wish
        self._window_count = int(window_s * RATE_HZ)
        self._language = wish.language
        self._probability = 1.0
        self._told = False
        self._timeline = Timeline()
        self._said: list[int] = self._prompt_tokens()
        self.tokens_count = 0

    def _prompt_tokens(self) -> list[int]:
        prompt = self._wish.prompt.strip()
        if not prompt:
            return []
        return list(self._model.hf_tokenizer.encode(" " + prompt, add_special_tokens=False).ids)

    def batches(self) -> Iterator[Batch]:
        """Everything that is heard, as it is; first of all, what the recording is.

        Raises:
            Unreadable: it cannot be decoded, or is too long.
        """
        if not self._recording.told:
            for _ in self._recording.look():
                yield []
        start = 0
        for piece in self._recording.pieces():
            self._take(start, piece)
            start += len(piece)
            yield []
            if self._timeline.count >= self._window_count:
                yield from self._window(more=True)
                yield self._progress()
        yield from self._window(more=False)
        if not self._told:  # nobody spoke
            yield [Heard(self._language or "", self._recording.decoded_s, 0.0)]

    def _take(self, start: int, piece: Samples) -> None:
        """Keep what may be speech of a piece that begins at sample `start`."""
        if not self._wish.voice_only:
            self._timeline.add(start, piece)
            return
        for spoken in voices(piece):
            self._timeline.add(start + spoken.start, piece[spoken.start : spoken.end])

    def _window(self, *, more: bool) -> Iterator[Batch]:
        """Hear what is there; if `more` comes, all but what should be heard together with that."""
        samples = self._timeline.joined()
        if not len(samples):
            return
        clock, heard = self._timeline.clock(), len(samples)
        self._model.more = more
        try:
            yield from self._segments(samples, clock)
        except Unfinished as unfinished:
            heard = (len(samples) // _FRAME_SAMPLES - unfinished.frames_count) * _FRAME_SAMPLES
        finally:
            self._model.more = False
        self._timeline.drop(heard if heard > 0 else len(samples))

    def _segments(self, samples: Samples, clock: Clock) -> Iterator[Batch]:
        wish = self._wish
        found, known = self._model.transcribe(
            samples,
            language=self._language,
            task="translate" if wish.translates else "transcribe",
            beam_size=wish.beam_size,
            temperature=wish.temperatures,
            initial_prompt=self._said[-_MOST_REMEMBERED:] or None,
            word_timestamps=wish.words,
            vad_filter=False,
        )
        if not self._told:
            self._told, self._language = True, known.language
            self._probability = float(known.language_probability)
            yield [Heard(known.language, self._duration_s(), self._probability)]
        for one in found:
            self._remember(one)
            yield [told(one, clock)]

    def _remember(self, found: Found) -> None:
        """What was said leads to what is said next."""
        self.tokens_count += len(found.tokens)
        self._said.extend(found.tokens)
        if found.temperature is not None and found.temperature > _FORGET_ABOVE:
            self._said.clear()
        del self._said[:-_MOST_REMEMBERED]

    def _duration_s(self) -> float:
        """As long as the file says, or as what was decoded of it is."""
        return max(self._recording.duration_s, self._recording.decoded_s)

    def _progress(self) -> Batch:
        whole_s = self._duration_s()
        return [Progress(min(1.0, self._recording.decoded_s / whole_s))] if whole_s else []


def told(found: Found, clock: Clock) -> Segment:
    """A segment, with the recording's own times."""
    words = tuple(_word(word, clock) for word in found.words or ())
    start_s = clock.told_s(found.start, clock.place(found.start))
    end_s = clock.told_s(found.end, clock.place(found.end, ends=True))
    if words:
        start_s, end_s = words[0].start_s, words[-1].end_s
    seek_s = found.seek / _FRAMES_A_SECOND
    return Segment(
        text=found.text,
        start_s=start_s,
        end_s=max(start_s, end_s),
        seek=round(clock.told_s(seek_s, clock.place(seek_s)) * _FRAMES_A_SECOND),
        tokens=tuple(found.tokens),
        temperature=float(found.temperature or 0.0),
        avg_logprob=float(found.avg_logprob),
        compression_ratio=float(found.compression_ratio),
        no_speech_prob=float(found.no_speech_prob),
        words=words,
    )


def _word(word: FoundWord, clock: Clock) -> Word:
    """By the stretch in which its middle is: a word is never said on both sides of a pause."""
    place = clock.place((word.start + word.end) / 2)
    return Word(
        word.word, clock.told_s(word.start, place), clock.told_s(word.end, place), float(word.probability)
    )
