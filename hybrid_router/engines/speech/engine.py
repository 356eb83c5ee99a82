"""Text read aloud: a sentence is made, written into the file and sent; then the next."""

from __future__ import annotations

import time
from collections.abc import Iterator

from hybrid_router.core.asks import Speech
from hybrid_router.core.errors import CallRefused
from hybrid_router.core.event import Sound, Usage
from hybrid_router.engines.settings import VoiceSettings
from hybrid_router.engines.sound.encode import Floats, SoundFile, sound_file
from hybrid_router.engines.sound.tempo import at_tempo
from hybrid_router.engines.speech.cast import Cast
from hybrid_router.engines.speech.opening import opened_voices
from hybrid_router.engines.speech.reading import Reader
from hybrid_router.engines.speech.voice import RATE_HZ, Voice
from hybrid_router.engines.task import Opened, Task, TaskRefused
from hybrid_router.engines.turns import Work

_FIRST_WORD = "həlˈO."


class Speaker:
    """See `engines.turns.Craft`."""

    def __init__(self, settings: VoiceSettings) -> None:
        """Open the voices, and have the usual one say a word: a network's first is its slowest.

        Raises:
            EngineFailed: they cannot be used.
        """
        self._cast = Cast(opened_voices(settings), settings)
        self._reader = Reader()
        self._reader.warm(british=self._cast.usual.british)
        self._cast.usual.say(_FIRST_WORD, 1.0)

    def opened(self) -> Opened:
        return Opened(description=f"voices: {self._cast.listed}", parallel=1)

    def take(self, task: Task) -> Work:
        ask = task.ask if isinstance(task.ask, Speech) else Speech()
        text = task.prompts[0] if task.prompts else ""
        if not isinstance(text, str) or not text.strip():
            raise _refused("input: there is nothing to say")
        return self._work(text, ask, self._cast.called(ask.voice))

    def _work(self, text: str, ask: Speech, voice: Voice) -> Work:
        pieces = self._reader.pieces(text, british=voice.british, most=voice.most_phonemes)
        begun_s = time.monotonic()
        file: SoundFile | None = None
        phoneme_count = sample_count = 0
        for phonemes, is_last in _with_end(pieces):
            samples = _said(phonemes, voice, ask.speed)
            file = file or sound_file(ask.format, RATE_HZ, len(samples) if is_last else None)
            phoneme_count += len(phonemes)
            sample_count += len(samples)
            content = file.feed(samples)
            yield [Sound(content)] if content else []
        if file is None:
            raise _refused("input: nothing in it can be said in English")
        if rest := file.end():
            yield [Sound(rest)]
        made_s = time.monotonic() - begun_s
        return Usage(phoneme_count, 0, decode_s=made_s, sound_s=sample_count / RATE_HZ)

    def close(self) -> None:
        """Nothing is held beyond the process."""


def _said(phonemes: str, voice: Voice, speed: float) -> Floats:
    """A piece at a speed: as near to it as the voice can, the rest by cutting and stretching."""
    slowest, fastest = voice.paces
    pace = min(max(speed, slowest), fastest)
    return at_tempo(voice.say(phonemes, pace), RATE_HZ, speed / pace)


def _with_end(pieces: Iterator[str]) -> Iterator[tuple[str, bool]]:
    """Each piece, and whether it is the last."""
    held = next(pieces, None)
    while held is not None:
        following = next(pieces, None)
        yield held, following is None
        held = following


def _refused(why: str) -> TaskRefused:
    return TaskRefused(CallRefused.code, why, by_call=True, param="input")
