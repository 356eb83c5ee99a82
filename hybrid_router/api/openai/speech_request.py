"""POST /v1/audio/speech: wire → `Call`."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias, Unpack

import msgspec
from msgspec import Meta, Struct

from hybrid_router.api.openai import malformed, sender
from hybrid_router.api.openai.fields import ModelName
from hybrid_router.api.openai.sender import Sender
from hybrid_router.core.asks import SoundFormat, Speech
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import CallRefused

MOST_CHARACTERS = 4096  # OpenAI's own
VoiceName: TypeAlias = Annotated[str, Meta(max_length=256)]


class VoiceId(Struct, frozen=True):
    """A voice as OpenAI writes those that a user made."""

    id: VoiceName


class SpeechBody(Struct, frozen=True, kw_only=True):
    """The fields that a speech call is made of.  OpenAI's `instructions` are for no local voice, so they are
    told as ignored."""

    model: ModelName
    input: str
    voice: VoiceName | VoiceId | None = None
    response_format: SoundFormat | None = None
    speed: Annotated[float, Meta(ge=0.25, le=4)] | None = None
    stream_format: Literal["audio", "sse"] | None = None


class SpeechRequest(Struct, frozen=True):
    """A call, and whether its client wants events instead of a file."""

    call: Call
    ask: Speech
    events: bool


_DECODER = msgspec.json.Decoder(SpeechBody)
_KNOWN = frozenset(SpeechBody.__struct_fields__)


def decode(body: bytes, **asker: Unpack[Sender]) -> SpeechRequest:
    """Read a speech request.

    Raises:
        CallRefused: for anything that is wrong with it.
    """
    asked, extra = malformed.read(_DECODER, _KNOWN, body)
    if not asked.input.strip():
        raise CallRefused("input: there is nothing to say", param="input")
    if len(asked.input) > MOST_CHARACTERS:
        raise CallRefused(f"input: expected at most {MOST_CHARACTERS} characters", param="input")
    ask = Speech(
        voice=asked.voice.id if isinstance(asked.voice, VoiceId) else asked.voice or "",
        speed=1.0 if asked.speed is None else asked.speed,
        format=asked.response_format or "mp3",
    )
    call = Call(
        operation=Operation.SPEAK,
        alias=asked.model,
        prompts=(asked.input,),
        stream=True,
        ask=ask,
        **sender.fields(asker, extra),
    )
    return SpeechRequest(call, ask, asked.stream_format == "sse")
