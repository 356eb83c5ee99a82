"""Speech: aura's text → a sound file that is sent as it is made; melotts' prompt → base64."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, Unpack

from msgspec import Struct

from hybrid_router.api.calls import Chunks
from hybrid_router.api.openai import sender as senders
from hybrid_router.api.openai.sender import Sender
from hybrid_router.api.openai.speech import CONTENT_TYPES
from hybrid_router.api.openai.speech import SoundBytes as Pieces
from hybrid_router.api.workers_ai.form import Given, Reply
from hybrid_router.api.workers_ai.forms import fields
from hybrid_router.api.workers_ai.forms.plain import Plain, enveloped
from hybrid_router.core.asks import SoundFormat, Speech
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import CallRefused, StreamBroken
from hybrid_router.core.event import Batch, Finish, Sound

Encoding = Literal["linear16", "flac", "mulaw", "alaw", "mp3", "opus", "aac"]
Container = Literal["none", "wav", "ogg"]

_FORMATS: Mapping[str, SoundFormat] = MappingProxyType(
    {"mp3": "mp3", "flac": "flac", "opus": "opus", "aac": "aac"}
)


class _Aura(Struct, frozen=True, kw_only=True):
    text: str
    speaker: str = ""
    encoding: Encoding = "mp3"
    container: Container | None = None


class SpeechBytes:
    """Deepgram's aura: a binary answer without an envelope."""

    def call(self, given: Given, **sender: Unpack[Sender]) -> Call:
        """See `form.Form`."""
        asked, extra = fields.read(given, _Aura)
        ask = Speech(voice=asked.speaker, format=_format(asked.encoding, asked.container))
        return Call(
            operation=Operation.SPEAK,
            alias=given.model,
            prompts=(_spoken(asked.text, "text"),),
            ask=ask,
            stream=True,
            **senders.fields(sender, extra),
        )

    def reply(self, given: Given, call: Call, events: Batch) -> Reply:
        """See `form.Form`."""
        return Reply(content=_whole(events), media_type=self.media_type(given, call))

    def chunks(self, given: Given, call: Call) -> Chunks | None:
        """The file itself, as it is made."""
        return Pieces()

    def media_type(self, given: Given, call: Call) -> str:
        """Of the file."""
        return CONTENT_TYPES[call.ask.format if isinstance(call.ask, Speech) else "mp3"]


class _Melo(Struct, frozen=True, kw_only=True):
    prompt: str
    lang: str | None = None


class SpeechBase64(Plain):
    """MeloTTS: `{"audio": base64}` in the envelope.  Its language goes on as a field of its own."""

    def call(self, given: Given, **sender: Unpack[Sender]) -> Call:
        """See `form.Form`."""
        asked, extra = fields.read(given, _Melo)
        if asked.lang not in (None, "en"):
            extra["lang"] = asked.lang
        return Call(
            operation=Operation.SPEAK,
            alias=given.model,
            prompts=(_spoken(asked.prompt, "prompt"),),
            ask=Speech(),
            **senders.fields(sender, extra),
        )

    def reply(self, given: Given, call: Call, events: Batch) -> Reply:
        """See `form.Form`."""
        audio = base64.b64encode(_whole(events)).decode()
        return enveloped({"audio": audio})


def _spoken(text: str, field: str) -> str:
    if not text.strip():
        raise CallRefused(f"'/{field}' holds nothing to say", param=f"/{field}")
    return text


def _format(encoding: Encoding, container: Container | None) -> SoundFormat:
    """What file is wanted.  Bare samples come as WAV unless the container is `none`.

    Raises:
        CallRefused: telephone codecs, which nothing here makes.
    """
    if encoding == "linear16":
        return "pcm" if container == "none" else "wav"
    if encoding not in _FORMATS:
        raise CallRefused(
            f"'/encoding' {encoding} is not made here; ask for mp3 or linear16", param="/encoding"
        )
    return _FORMATS[encoding]


def _whole(events: Batch) -> bytes:
    """The file.

    Raises:
        StreamBroken: it is not whole.
    """
    content = b"".join(event.content for event in events if isinstance(event, Sound))
    if not content or not any(isinstance(event, Finish) for event in events):
        raise StreamBroken("the answer holds no whole sound file")
    return content
