"""Messages in Workers AI's words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from hybrid_router.core.call import ImagePart, Message, Part, RefusalPart, TextPart
from hybrid_router.core.errors import Inexpressible

_ROLES = {"developer": "system", "function": "tool"}


def encoded(messages: Iterable[Message], *, classic: bool) -> list[dict[str, Any]]:
    """Each message as both endpoints take it.

    Text parts become one string, since some classic models refuse lists; so does a content of null.
    `classic`: models on their own endpoint know no `name` but a tool's, and no earlier reasoning; the
    chat-completion family knows both wherever it is asked.

    Raises:
        Inexpressible: a part is neither text nor image.
    """
    return [_message(message, classic=classic) for message in messages]


def _message(message: Message, *, classic: bool) -> dict[str, Any]:
    role = _ROLES.get(message.role, message.role)
    fields: dict[str, Any] = {"role": role, "content": _content(message.content)}
    if message.name is not None and (role == "tool" or not classic):
        fields["name"] = message.name
    if message.tool_calls:
        fields["tool_calls"] = msgspec.to_builtins(message.tool_calls)
    if message.tool_call_id is not None:
        fields["tool_call_id"] = message.tool_call_id
    if message.reasoning_content and not classic:
        fields["reasoning"] = message.reasoning_content
    return fields


def _content(content: str | list[Part] | None) -> str | list[dict[str, Any]]:
    if content is None or isinstance(content, str):
        return content or ""
    parts = [_part(part) for part in content]
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _part(part: Part) -> dict[str, Any]:
    match part:
        case TextPart(text=text) | RefusalPart(refusal=text):
            return {"type": "text", "text": text}
        case ImagePart(image_url=image):
            return {"type": "image_url", "image_url": image}
        case _:
            kind = type(part).__struct_config__.tag
            raise Inexpressible(f"Workers AI takes text and images: a message holds a part of type `{kind}`")
