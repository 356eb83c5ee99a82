"""POST /v1/audio/speech: a sound file that is sent while it is made, or events that hold its pieces."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from types import MappingProxyType

import msgspec
from aiohttp import web

from hybrid_router.api import body, calls
from hybrid_router.api.openai import endpoints, error, speech_request
from hybrid_router.core.asks import SoundFormat
from hybrid_router.core.event import Batch, Finish, Sound, Usage

CONTENT_TYPES: Mapping[SoundFormat, str] = MappingProxyType(
    {
        "mp3": "audio/mpeg",
        "opus": "audio/ogg",
        "aac": "audio/aac",
        "flac": "audio/flac",
        "wav": "audio/wav",
        "pcm": "audio/pcm",
    }
)


async def speak(request: web.Request) -> web.StreamResponse:
    """POST /v1/audio/speech.

    A file has no place for an error: one that cannot be finished ends with its connection.
    """
    raw = await body.read(request)
    asked = endpoints.decoded(request, raw, speech_request.decode, "speech-", request.path)
    if asked.events:
        return await calls.stream(request, asked.call, SoundEvents(), error.in_band)
    return await calls.stream(request, asked.call, SoundBytes(), None, CONTENT_TYPES[asked.ask.format])


class SoundBytes:
    """The file itself.  See `api.calls.Chunks`."""

    def __init__(self) -> None:
        self.whole = False

    def encode(self, batch: Batch) -> bytes:
        """A batch's part of it."""
        self.whole = self.whole or any(isinstance(event, Finish) for event in batch)
        return b"".join(event.content for event in batch if isinstance(event, Sound))

    def end(self) -> bytes:
        """Nothing: a whole file says so itself."""
        return b""


class SoundEvents:
    """Its pieces, each in a document.  See `api.calls.Chunks`."""

    def __init__(self) -> None:
        self.whole = False
        self._usage = Usage(0, 0)

    def encode(self, batch: Batch) -> bytes:
        """A batch's sound, as `speech.audio.delta`."""
        for event in batch:
            if isinstance(event, Usage):
                self._usage = event
            self.whole = self.whole or isinstance(event, Finish)
        content = b"".join(event.content for event in batch if isinstance(event, Sound))
        if not content:
            return b""
        return _event({"type": "speech.audio.delta", "audio": base64.b64encode(content).decode()})

    def end(self) -> bytes:
        """`speech.audio.done`, with what was counted: a local voice counts the phonemes that it read."""
        read, made = self._usage.prompt_tokens, self._usage.completion_tokens
        usage = {"input_tokens": read, "output_tokens": made, "total_tokens": read + made}
        return _event({"type": "speech.audio.done", "usage": usage})


def _event(document: dict[str, object]) -> bytes:
    return b"data: " + msgspec.json.encode(document) + b"\n\n"
