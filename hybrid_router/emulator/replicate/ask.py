"""A model's inputs as a call.  What a model does is told from its name and from what it is given."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct

from hybrid_router.core.asks import Painting, Speech, Transcription
from hybrid_router.core.call import Call, Message, Operation, Sampling
from hybrid_router.core.upload import upload_of
from hybrid_router.emulator.stage import Count, checked, invalid

_PAINTERS = ("flux", "diffusion", "image")
_EMBEDDERS = ("embed", "minilm", "mpnet")
_JPEGS = ("jpg", "jpeg")

Find = Callable[[str], bytes | None]


class _Said(Struct):
    role: Literal["system", "user", "assistant"]
    content: str


def call(id_: str, model: str, given: dict[str, Any], find: Find, *, stream: bool) -> Call:
    """What is asked.

    Args:
        find: a file that was put here before, by its address.

    Raises:
        Refusal: an input is missing, or is something else than it must be.
    """
    operation = _operation(model, given)
    if operation is Operation.CHAT:
        return _chat(id_, model, given, stream=stream)
    if operation is Operation.TRANSCRIBE:
        language = _told(given, "language", str | None)
        content = _file(given["audio"], find)
        ask = Transcription(language=language, translates=bool(given.get("translate")))
        uploads = (upload_of(content, "audio"),)
        return Call(id=id_, operation=operation, alias=model, ask=ask, uploads=uploads)
    text = _text(given, "prompt" if operation is Operation.IMAGE else "text")
    if operation is Operation.IMAGE:
        ask_ = Painting(
            width=_told(given, "width", Count | None) or 0,
            height=_told(given, "height", Count | None) or 0,
            format="jpeg" if _told(given, "output_format", str | None) in _JPEGS else "png",
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
        said: list[_Said] = _told(given, "messages", list[_Said])
        messages = [Message(role=each.role, content=each.content) for each in said]
    else:
        messages = [Message(role="user", content=_text(given, "prompt"))]
    if system := given.get("system_prompt"):
        messages.insert(0, Message(role="system", content=str(system)))
    stops = tuple(stop for stop in str(given.get("stop_sequences") or "").split(",") if stop)
    sampling = Sampling(max_tokens=_told(given, "max_tokens", Count | None), stop=stops)
    return Call(
        id=id_,
        operation=Operation.CHAT,
        alias=model,
        messages=tuple(messages),
        sampling=sampling,
        stream=stream,
    )


def _told(given: dict[str, Any], name: str, kind: Any) -> Any:
    """An input that must be of this kind; None, if it is not there."""
    return checked(given.get(name), kind, f"- input.{name}{{path}}: {{why}}")


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
        except ValueError:
            raise invalid("- input.audio: no base64", 422) from None
    content = find(str(address))
    if content is None:
        raise invalid("- input.audio: no such file", 422)
    return content
