"""A model's inputs as a call.  What a model does is told from its name and from what it is given."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from hybrid_router.core.asks import Painting, Speech, Transcription
from hybrid_router.core.call import Call, Message, Operation, Sampling
from hybrid_router.core.upload import upload_of
from hybrid_router.emulator.stage import invalid

_PAINTERS = ("flux", "diffusion", "image")
_EMBEDDERS = ("embed", "minilm", "mpnet")
_FORMATS = {"jpg": "jpeg", "jpeg": "jpeg"}

Find = Callable[[str], bytes | None]


def call(id_: str, model: str, given: dict[str, Any], find: Find, *, stream: bool) -> Call:
    """What is asked.

    Args:
        find: a file that was put here before, by its address.

    Raises:
        Refusal: an input is missing.
    """
    operation = _operation(model, given)
    if operation is Operation.CHAT:
        return _chat(id_, model, given, stream=stream)
    if operation is Operation.TRANSCRIBE:
        content = _file(given["audio"], find)
        ask = Transcription(language=given.get("language"), translates=bool(given.get("translate")))
        uploads = (upload_of(content, "audio"),)
        return Call(id=id_, operation=operation, alias=model, ask=ask, uploads=uploads)
    text = _text(given, "prompt" if operation is Operation.IMAGE else "text")
    if operation is Operation.IMAGE:
        ask_ = Painting(
            width=int(given.get("width", 0)),
            height=int(given.get("height", 0)),
            format="jpeg" if given.get("output_format") in _FORMATS else "png",
        )
        return Call(id=id_, operation=operation, alias=model, prompts=(text,), ask=ask_)
    if operation is Operation.SPEAK:
        speech = Speech(voice=str(given.get("voice", "")), format="mp3")
        return Call(id=id_, operation=operation, alias=model, prompts=(text,), ask=speech, stream=True)
    return Call(id=id_, operation=operation, alias=model, prompts=(text,))


def _operation(model: str, given: dict[str, Any]) -> Operation:
    if "audio" in given:
        return Operation.TRANSCRIBE
    if any(name in model for name in _PAINTERS):
        return Operation.IMAGE
    if "text" in given:
        return Operation.EMBED if any(name in model for name in _EMBEDDERS) else Operation.SPEAK
    return Operation.CHAT


def _chat(id_: str, model: str, given: dict[str, Any], *, stream: bool) -> Call:
    if isinstance(given.get("messages"), list):
        messages = [Message(role=each["role"], content=each["content"]) for each in given["messages"]]
    else:
        messages = [Message(role="user", content=_text(given, "prompt"))]
    if system := given.get("system_prompt"):
        messages.insert(0, Message(role="system", content=str(system)))
    stops = tuple(stop for stop in str(given.get("stop_sequences") or "").split(",") if stop)
    sampling = Sampling(max_tokens=given.get("max_tokens"), stop=stops)
    return Call(
        id=id_,
        operation=Operation.CHAT,
        alias=model,
        messages=tuple(messages),
        sampling=sampling,
        stream=stream,
    )


def _text(given: dict[str, Any], name: str) -> str:
    text = given.get(name)
    if not isinstance(text, str):
        raise invalid(f"- input: {name} is required", 422)
    return text


def _file(address: Any, find: Find) -> bytes:
    """A file that is in its address, or that was put here."""
    if isinstance(address, str) and address.startswith("data:"):
        try:
            return base64.b64decode(address.partition(",")[2], validate=True)
        except binascii.Error:
            raise invalid("- input.audio: no base64", 422) from None
    content = find(str(address))
    if content is None:
        raise invalid("- input.audio: no such file", 422)
    return content
