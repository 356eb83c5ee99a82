"""Recordings, written down: raw to Whisper and Nova, in JSON to Whisper's turbo."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from msgspec.structs import replace

from hybrid_router.backends.errand import Errand
from hybrid_router.backends.readers import Whole
from hybrid_router.backends.workers_ai.tasks import bodies, interpreter, recording, transcript
from hybrid_router.backends.workers_ai.tasks.task import Asked, Send
from hybrid_router.backends.workers_ai.tasks.transcript import Transcript
from hybrid_router.catalogue.families import Family
from hybrid_router.core.asks import Transcription
from hybrid_router.core.call import Call, Feature
from hybrid_router.core.errors import CallRefused, NotAble
from hybrid_router.core.event import Batch

# Nobody says what a request may hold.  This is what the gateway still caches, and what OpenAI takes.
MOST_BYTES = 25 * 2**20
ENGLISH = "en"
_ENGLISH_ONLY = "@cf/openai/whisper-tiny-en"
_TURBO = "whisper-large-v3-turbo"


class Transcribe:
    """TRANSCRIBE."""

    def features(self, family: Family, model: str) -> frozenset[Feature]:
        """Turbo says it in English itself; others are helped, but one that hears English alone."""
        return frozenset() if model == _ENGLISH_ONLY else frozenset({Feature.SPEECH_TRANSLATION})

    async def run(self, asked: Asked, send: Send) -> AsyncGenerator[Batch]:
        """One request, or a chain of them where another model has to translate.  See `Task`."""
        ask = details(asked.call)
        decode = decoder(asked.family)

        def known(body: bytes) -> Transcript:
            return _known(decode(body), asked)

        def read(body: bytes) -> Batch:
            return transcript.events(known(body), words=ask.words)

        if ask.translates and asked.family is not Family.SOUND_BASE64:
            batches = interpreter.run(asked, send, errand(asked), known)
        else:
            batches = send(errand(asked), Whole(read))
        async with aclosing(batches):
            async for batch in batches:
                yield batch


def details(call: Call) -> Transcription:
    """What the call asks for."""
    return call.ask if isinstance(call.ask, Transcription) else Transcription()


def decoder(family: Family) -> Callable[[bytes], Transcript]:
    """How a family's replies are read."""
    return transcript.nova if family is Family.SOUND_NOVA else transcript.whisper


def errand(asked: Asked) -> Errand:
    """The request for a transcript.

    Raises:
        CallRefused: there is no recording.
        NotAble: the model cannot be told something that is asked.
    """
    _check_size(asked)
    match asked.family:
        case Family.SOUND_BASE64:
            return _in_json(asked)
        case Family.SOUND_NOVA:
            return _to_nova(asked)
        case _:
            return _raw(asked)


def _check_size(asked: Asked) -> None:
    size_bytes = asked.call.uploads[0].size_bytes
    if not size_bytes:
        raise CallRefused("file: it is empty", param="file")
    sent_bytes = bodies.Base64(asked.call.uploads[0]).size_bytes
    if (sent_bytes if asked.family is Family.SOUND_BASE64 else size_bytes) > MOST_BYTES:
        most = MOST_BYTES * 3 // 4 if asked.family is Family.SOUND_BASE64 else MOST_BYTES
        raise NotAble(
            f"file: {asked.model} takes recordings of up to {most} bytes, this one has {size_bytes}:"
            " send it in parts, or compressed (Opus, MP3)",
            param="file",
        )


def _in_json(asked: Asked) -> Errand:
    ask = details(asked.call)
    _refuse(asked, temperature=ask.temperature)
    fields: dict[str, Any] = {"task": "translate" if ask.translates else "transcribe"}
    if ask.language is not None:
        fields["language"] = ask.language
    if ask.voice_only is not None:
        fields["vad_filter"] = ask.voice_only
    if asked.call.prompts:
        fields["initial_prompt"] = asked.call.prompts[0]
    return bodies.document_with(asked.model, fields, {"audio": asked.call.uploads[0]})


def _to_nova(asked: Asked) -> Errand:
    ask, upload = details(asked.call), asked.call.uploads[0]
    _refuse(asked, temperature=ask.temperature, prompt=asked.call.prompts, vad_filter=ask.voice_only)
    query = {"punctuate": "true"}
    query |= {"detect_language": "true"} if ask.language is None else {"language": ask.language}
    return bodies.raw(asked.model, upload, recording.media_type(upload), query)


def _raw(asked: Asked) -> Errand:
    ask = details(asked.call)
    language = None if asked.model == _ENGLISH_ONLY and ask.language == ENGLISH else ask.language
    _refuse(
        asked,
        temperature=ask.temperature,
        prompt=asked.call.prompts,
        vad_filter=ask.voice_only,
        language=language,
    )
    return bodies.raw(asked.model, asked.call.uploads[0], recording.UNKNOWN)


def _refuse(asked: Asked, **wishes: Any) -> None:
    """Name what there are no words for; 0 and no are what the model does anyway."""
    for name, wish in wishes.items():
        if wish:
            other = "" if asked.family is Family.SOUND_BASE64 or name == "temperature" else f": {_TURBO} does"
            raise NotAble(f"{asked.model} knows no `{name}`{other}", param=name)


def _known(heard: Transcript, asked: Asked) -> Transcript:
    """With the language that the client told, or that is the model's only one, where the model tells none;
    and not shorter than the recording's own head says."""
    language = details(asked.call).language or (ENGLISH if asked.model == _ENGLISH_ONLY else "")
    return replace(
        heard,
        duration_s=max(heard.duration_s, recording.length_s(asked.call.uploads[0])),
        language=heard.language or language,
    )
