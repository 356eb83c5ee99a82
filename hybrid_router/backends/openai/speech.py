"""Speech: bytes of a sound file as they come."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from hybrid_router.backends.errand import Errand, Reader, Unreadable
from hybrid_router.backends.openai.chat import Manner, extra
from hybrid_router.backends.readers import ANSWER_LIMIT_BYTES, JSON, Whole
from hybrid_router.core.asks import SoundFormat, Speech
from hybrid_router.core.call import Call
from hybrid_router.core.errors import Inexpressible
from hybrid_router.core.event import Batch, Finish, Sound

_DEFAULT_VOICE = "alloy"
_SOUND = ("audio/", "application/octet-stream", "application/ogg")
_FORMATS: Mapping[str, SoundFormat] = MappingProxyType({
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/flac": "flac",
    "audio/x-flac": "flac",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/aac": "aac",
    "audio/pcm": "pcm",
    "audio/opus": "opus",
    "audio/ogg": "opus",
    "application/ogg": "opus",
})  # fmt: skip


class Sounds:
    """Reads a sound file.  See `backends.errand.Reader`.

    Args:
        label: who speaks, for messages.
        wanted: the format that was asked for; another one that is named as such is no answer.
    """

    def __init__(self, label: str, wanted: SoundFormat) -> None:
        self._label = label
        self._wanted = wanted
        self._error: Whole | None = None
        self._bytes_count = 0
        self._ends_itself = False
        self.done = False

    def head(self, media_type: str, headers: Mapping[str, str]) -> Batch:
        """Check what comes: JSON is an error, and another format would be taken for the one asked for."""
        self._ends_itself = "Content-Length" in headers or "Transfer-Encoding" in headers
        if media_type in JSON:
            self._error = Whole(_never, _SOUND)
            return self._error.head(media_type, headers)
        if not media_type.startswith(_SOUND):
            raise Unreadable("answered with something that is no sound", detail=media_type[:100])
        if (sent := _FORMATS.get(media_type, self._wanted)) != self._wanted:
            raise Inexpressible(f"{self._label} speaks in {sent} alone: ask for response_format {sent}")
        return []

    def feed(self, chunk: bytes) -> Batch:
        """The next bytes."""
        if self._error is not None:
            return self._error.feed(chunk)
        self._bytes_count += len(chunk)
        if self._bytes_count > ANSWER_LIMIT_BYTES:
            raise Unreadable(f"sent more than {ANSWER_LIMIT_BYTES} bytes")
        return [Sound(chunk)]

    def end(self) -> Batch:
        """The file is whole, if the transfer says so; a connection that just ends does not."""
        self.done = True
        if self._error is not None:
            return self._error.end()
        if not self._bytes_count:
            raise Unreadable("sent no sound")
        if not self._ends_itself:
            raise Unreadable("ended its sound without a sign that it was whole")
        return [Finish("stop")]


def speech(call: Call, model: str, manner: Manner) -> list[tuple[Errand, Reader]]:
    """One request, whose reply is passed on as it comes."""
    ask = call.ask if isinstance(call.ask, Speech) else Speech()
    fields: dict[str, Any] = {
        "model": model,
        "input": call.prompts[0],
        "voice": ask.voice or _DEFAULT_VOICE,
        "response_format": ask.format,
    }
    if ask.speed != 1.0:
        fields["speed"] = ask.speed
    errand = Errand(path="audio/speech", body=msgspec.json.encode({**fields, **extra(call, manner)}))
    return [(errand, Sounds(manner.label, ask.format))]


def _never(body: bytes) -> Batch:
    raise Unreadable("sent no sound")
