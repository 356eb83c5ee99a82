"""Pictures as clients get them: in one document, or as events of a stream."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import msgspec

from hybrid_router.api.gallery import media_type
from hybrid_router.api.openai.image_request import ImageRequest
from hybrid_router.api.openai.reply import unasked
from hybrid_router.core.errors import StreamBroken
from hybrid_router.core.event import Batch, Event, Finish, Picture, Usage


def document(asked: ImageRequest, created_s: int, events: Batch, address: Callable[[bytes], str]) -> bytes:
    """All pictures, in their order.

    Args:
        address: keeps a picture and says where it can be fetched; used if the client wants that.

    Raises:
        StreamBroken: a picture is missing.
    """
    pictures = _finished(asked, events)
    told: dict[str, Any] = {
        "created": created_s,
        "background": "opaque",
        "output_format": _format(asked, pictures[0]),
        "data": [
            {"url": address(picture.content)} if asked.by_url else {"b64_json": _base64(picture)}
            for picture in pictures
        ],
    }
    if asked.size is not None:
        told["size"] = asked.size
    usage = next((event for event in reversed(events) if isinstance(event, Usage)), None)
    if usage is not None:
        told["usage"] = _usage(usage)
    return msgspec.json.encode(told)


class PictureChunks:
    """A stream's events.  See `api.calls.Chunks`."""

    def __init__(self, asked: ImageRequest, created_s: int) -> None:
        self._asked = asked
        self._created_s = created_s
        self._kind = "image_edit" if asked.edits else "image_generation"
        self._finished_count = 0
        self._held: dict[str, Any] | None = None  # the last picture, until it shows whether usage follows
        self._usage: Usage | None = None

    @property
    def whole(self) -> bool:
        """Whether every picture is finished."""
        return self._finished_count >= self._asked.call.n

    def encode(self, batch: Batch) -> bytes:
        """One batch's events.

        Raises:
            StreamBroken: a picture was not asked for.
        """
        return b"".join(map(self._event, batch))

    def end(self) -> bytes:
        """The last picture, with the usage, if somebody counted.  OpenAI has no end mark here."""
        if self._held is not None and self._usage is not None:
            self._held["usage"] = _usage(self._usage)
        return self._released()

    def _event(self, event: Event) -> bytes:
        if isinstance(event, Usage):
            self._usage = event
            return b""
        if isinstance(event, Finish):
            self._finished_count += 1
            return b""
        out = self._released()
        if not isinstance(event, Picture):
            return out
        if not 0 <= event.index < self._asked.call.n:
            raise unasked()
        if event.partial is None:
            self._held = self._document("completed", event)
            return out
        return out + _sse({**self._document("partial_image", event), "partial_image_index": event.partial})

    def _released(self) -> bytes:
        held, self._held = self._held, None
        return b"" if held is None else _sse(held)

    def _document(self, kind: str, picture: Picture) -> dict[str, Any]:
        return {
            "type": f"{self._kind}.{kind}",
            "b64_json": _base64(picture),
            "created_at": self._created_s,
            "size": self._asked.size or "auto",
            "quality": "auto",
            "background": "opaque",
            "output_format": _format(self._asked, picture),
        }


def _finished(asked: ImageRequest, events: Batch) -> list[Picture]:
    found = {event.index: event for event in events if isinstance(event, Picture) and event.partial is None}
    if any(not 0 <= index < asked.call.n for index in found):
        raise unasked()
    if len(found) < asked.call.n:
        raise StreamBroken("the answer lacks a picture")
    return [found[index] for index in range(asked.call.n)]


def _format(asked: ImageRequest, picture: Picture) -> str:
    """What it is, which may be something else than was asked for: no picture is converted here."""
    kind, _, found = media_type(picture.content).partition("/")
    return found if kind == "image" else asked.ask.format


def _base64(picture: Picture) -> str:
    return base64.b64encode(picture.content).decode()


def _sse(document: dict[str, Any]) -> bytes:
    return f"event: {document['type']}\n".encode() + b"data: " + msgspec.json.encode(document) + b"\n\n"


def _usage(usage: Usage) -> dict[str, Any]:
    """Tokens of the prompt, as the model's tokenizer counts them; no engine here makes pictures of tokens."""
    return {
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "input_tokens_details": {"text_tokens": usage.prompt_tokens, "image_tokens": 0},
    }
