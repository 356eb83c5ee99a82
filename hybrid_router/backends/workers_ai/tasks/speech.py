"""Texts, spoken: by Aura in bytes that are passed on as they come, by MeloTTS in base64."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from types import MappingProxyType
from typing import Any

from hybrid_router.backends.errand import Errand, Reader
from hybrid_router.backends.workers_ai.tasks import bodies
from hybrid_router.backends.workers_ai.tasks.sounding import Sounding
from hybrid_router.backends.workers_ai.tasks.speakers import OPENAI, SPEAKERS
from hybrid_router.backends.workers_ai.tasks.task import Asked, Send
from hybrid_router.catalogue.families import Family
from hybrid_router.core.asks import SoundFormat, Speech
from hybrid_router.core.call import Feature
from hybrid_router.core.errors import NotAble
from hybrid_router.core.event import Batch

_RATE = 24_000  # of OpenAI's pcm: 16 bits, one channel
_SOUNDS: Mapping[SoundFormat, Mapping[str, Any]] = MappingProxyType(
    {
        "mp3": {"encoding": "mp3"},
        "opus": {"encoding": "opus", "container": "ogg"},
        "aac": {"encoding": "aac"},
        "flac": {"encoding": "flac"},
        "wav": {"encoding": "linear16", "container": "wav", "sample_rate": _RATE},
        "pcm": {"encoding": "linear16", "container": "none", "sample_rate": _RATE},
    }
)
_LANGUAGE = re.compile(r"[a-z]{2}", re.ASCII)
_SHOWN_LENGTH = 40  # characters of a name that nobody has


class Speak:
    """SPEAK."""

    def features(self, family: Family, model: str) -> frozenset[Feature]:
        return frozenset()

    async def run(self, asked: Asked, send: Send) -> AsyncGenerator[Batch]:
        """One request.  See `Task`."""
        async with aclosing(send(errand(asked), reader(asked))) as batches:
            async for batch in batches:
                yield batch


def details(asked: Asked) -> Speech:
    """What the call asks for."""
    return asked.call.ask if isinstance(asked.call.ask, Speech) else Speech()


def reader(asked: Asked) -> Reader:
    """What reads the reply."""
    return Sounding(details(asked).format, in_json=asked.family is Family.SPEECH_BASE64)


def errand(asked: Asked) -> Errand:
    """The request.

    Raises:
        NotAble: the model cannot speak so.
    """
    ask, text = details(asked), asked.call.prompts[0]
    if ask.speed != 1.0:
        raise NotAble(f"{asked.model} knows no `speed`", param="speed")
    if asked.family is Family.SPEECH_BASE64:
        if ask.format != "mp3":
            raise NotAble(f"response_format: {asked.model} makes mp3 alone", param="response_format")
        return bodies.document(asked.model, {"prompt": text, **_named("lang", language(asked))})
    fields = {"text": text, **_named("speaker", speaker(asked)), **_SOUNDS[ask.format]}
    return bodies.document(asked.model, fields)


def speaker(asked: Asked) -> str:
    """The configuration's word first, then the model's own; empty: the model's default.

    Raises:
        NotAble: nobody is called so.
    """
    voice = details(asked).voice.strip()
    known = SPEAKERS.get(asked.model)
    for name in (asked.config.speakers.get(voice, ""), voice.lower()):
        if name and (known is None or name in known) and name not in OPENAI - (known or frozenset()):
            return name
    _check_anybody(asked, voice, ", ".join(sorted(known or ())))
    return ""


def language(asked: Asked) -> str:
    """MeloTTS has a voice for each language: a word for a voice is the language's code, or led to it."""
    voice = details(asked).voice.strip()
    name = asked.config.speakers.get(voice, voice).lower()
    if _LANGUAGE.fullmatch(name):
        return name
    _check_anybody(asked, voice, "a language's code, such as en or fr")
    return ""


def _check_anybody(asked: Asked, voice: str, names: str) -> None:
    """OpenAI's names, and those that stand for another model's speakers, are anybody's."""
    if voice and voice.lower() not in OPENAI and voice not in asked.config.speakers:
        raise NotAble(
            f"voice: {asked.model} has no speaker {voice[:_SHOWN_LENGTH]!r}; it has {names}"
            " (`speakers` of the backend may lead from other words to these)",
            param="voice",
        )


def _named(field: str, word: str) -> dict[str, str]:
    return {field: word} if word else {}
