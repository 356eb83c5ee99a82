"""Which of a model's voices a call gets."""

from __future__ import annotations

from collections.abc import Mapping

from hybrid_router.core.errors import CallRefused
from hybrid_router.engines.settings import VoiceSettings
from hybrid_router.engines.speech.voice import Voice
from hybrid_router.engines.task import EngineFailed, TaskRefused

# What clients ask for that know OpenAI's service only.
_OPENAI = frozenset(
    {
        "alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage",
        "shimmer", "verse",
    }
)  # fmt: skip
_SHOWN_LENGTH = 40  # characters of a name that nobody has
_FAVOURITES = ("heart", "af_heart")


class Cast:
    """A model's voices and the names they go by."""

    def __init__(self, voices: Mapping[str, Voice], settings: VoiceSettings) -> None:
        """Raises EngineFailed: a voice is configured that is not there."""
        self._voices = voices
        self._renamed = dict(settings.voices)
        for name in (settings.voice, *self._renamed.values()):
            if name and name not in voices:
                raise EngineFailed(f"there is no voice {name!r} in the model; it has {self.listed}")
        usual = next((name for name in _FAVOURITES if name in voices), next(iter(voices)))
        self.usual = voices[settings.voice or usual]

    @property
    def listed(self) -> str:
        """The voices' own names."""
        return ", ".join(sorted(self._voices))

    def called(self, name: str) -> Voice:
        """The configuration's word first, then the model's own; OpenAI's names are anybody's.

        Raises:
            TaskRefused: nobody is called so.
        """
        found = self._voices.get(self._renamed.get(name, name))
        if found is not None:
            return found
        if not name or name in _OPENAI:
            return self.usual
        names = ", ".join(sorted({*self._voices, *self._renamed}))
        raise TaskRefused(
            CallRefused.code,
            f"voice: there is no voice {name[:_SHOWN_LENGTH]!r} here; there are {names}, and OpenAI's names "
            f"({', '.join(sorted(_OPENAI)[:3])}, …)",
            by_call=True,
            param="voice",
        )
