"""Transcription and speech translation: what faster-whisper can do with one task."""

from __future__ import annotations

from collections.abc import Generator

from hybrid_router.core.asks import Transcription
from hybrid_router.core.call import Feature
from hybrid_router.core.errors import CallRefused, UnsupportedParameter
from hybrid_router.core.event import Batch, Usage
from hybrid_router.engines.settings import WhisperSettings
from hybrid_router.engines.sound.decode import Recording, Unreadable
from hybrid_router.engines.task import Opened, Task, TaskRefused
from hybrid_router.engines.turns import Work
from hybrid_router.engines.whisper import voices
from hybrid_router.engines.whisper.hearing import Hearing, Wish
from hybrid_router.engines.whisper.opening import opened_model

_ENGLISH = "en"
# Recordings that are heard in turns: a short one is not kept waiting by a long one.  Each holds at most two
# windows of samples, and what its decoder has read ahead.
_TOGETHER = 4


class Whisper:
    """See `engines.turns.Craft`."""

    def __init__(self, settings: WhisperSettings) -> None:
        """Raises EngineFailed: the model cannot be opened."""
        self._settings = settings
        self._model = opened_model(settings)
        voices.prepare()
        self._multilingual = bool(self._model.model.is_multilingual)

    def opened(self) -> Opened:
        languages = "many languages" if self._multilingual else "English only"
        return Opened(
            description=f"whisper, {languages}, {self._model.model.compute_type}",
            parallel=self._settings.parallel or _TOGETHER,
            can=frozenset({Feature.SPEECH_TRANSLATION} if self._multilingual else ()),
        )

    def take(self, task: Task) -> Work:
        ask = task.ask
        if not isinstance(ask, Transcription) or not task.uploads:
            raise TaskRefused(UnsupportedParameter.code, "this model transcribes recordings", by_call=True)
        self._check(ask)
        recording = self._recording(task)
        return self._heard(recording, self._wish(task, ask))

    def _check(self, ask: Transcription) -> None:
        """Refuse what this model does not understand: another one may."""
        if ask.translates and not self._multilingual:
            raise TaskRefused(
                UnsupportedParameter.code,
                "this model hears English only, and translates nothing",
                by_call=True,
            )
        if ask.language is not None and ask.language not in self._model.supported_languages:
            known = "knows no such language" if self._multilingual else "hears English only"
            raise TaskRefused(
                UnsupportedParameter.code,
                f"language: this model {known} ({ask.language!r}); leave it out, or choose another model",
                by_call=True,
                param="language",
            )

    def _recording(self, task: Task) -> Recording:
        """The file, mapped and looked at."""
        upload = task.uploads[0]
        try:
            if not upload.size_bytes:
                raise Unreadable("it is empty")  # noqa: TRY301 - told as all that is wrong with it
            return Recording(upload.mapped(), self._settings.longest_s)
        except Unreadable as error:
            raise _refusal(error) from None

    def _wish(self, task: Task, ask: Transcription) -> Wish:
        return Wish(
            language=ask.language if self._multilingual else _ENGLISH,
            prompt=str(task.prompts[0]) if task.prompts else "",
            temperature=min(1.0, max(0.0, ask.temperature or 0.0)),
            beam_size=self._settings.beam_size,
            translates=ask.translates,
            words=ask.words,
            voice_only=self._settings.voice_only if ask.voice_only is None else ask.voice_only,
        )

    def _heard(self, recording: Recording, wish: Wish) -> Generator[Batch, None, Usage]:
        with recording:
            hearing = Hearing(self._model, recording, wish)
            try:
                yield from hearing.batches()
            except Unreadable as error:
                raise _refusal(error) from None
            return Usage(0, hearing.tokens_count, sound_s=recording.decoded_s)

    def close(self) -> None:
        self._model.model.unload_model()


def _refusal(error: Unreadable) -> TaskRefused:
    return TaskRefused(CallRefused.code, f"file: {error}", by_call=True, param="file")
