"""Messages in Anthropic's words: turns of blocks, the system's beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TypeAlias

import msgspec

from hybrid_router.core.call import FilePart, ImagePart, Message, Part, RefusalPart, TextPart, ToolCall
from hybrid_router.core.errors import Inexpressible

Block: TypeAlias = dict[str, Any]
_SYSTEM = ("system", "developer")
_TOOL = ("tool", "function")
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[^,]*)?;base64,(.*)", re.DOTALL)
_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9_-]")


def system(messages: Iterable[Message]) -> str:
    """What is for the model alone, wherever in the conversation it stands."""
    return "\n\n".join(message.text for message in messages if message.role in _SYSTEM and message.text)


def turns(messages: Iterable[Message]) -> list[Block]:
    """The conversation in turns, the user's and the assistant's by rotation.

    All results of one turn's tool calls must be in the next turn, so what one role says in a row is one turn.

    Raises:
        Inexpressible: a part or a tool's result has no form.
    """
    found: list[Block] = []
    for message in messages:
        if message.role in _SYSTEM:
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message)
        if found and found[-1]["role"] == role:
            found[-1]["content"] += blocks
        elif blocks:
            found.append({"role": role, "content": blocks})
    return found


def tool_id(given: str) -> str:
    """An id that came from elsewhere, within the letters that are allowed."""
    return _NOT_IN_IDS.sub("_", given)


def _blocks(message: Message) -> list[Block]:
    if message.role in _TOOL:
        return [_result(message)]
    blocks = _content(message.content)
    return blocks + [_use(call) for call in message.tool_calls or ()]


def _content(content: str | list[Part] | None) -> list[Block]:
    """Blocks; an empty text is refused as a block."""
    parts: list[Part] = [TextPart(content)] if isinstance(content, str) else content or []
    return [block for part in parts if (block := _block(part)) != {"type": "text", "text": ""}]


def _block(part: Part) -> Block:
    match part:
        case TextPart(text=text) | RefusalPart(refusal=text):
            return {"type": "text", "text": text}
        case ImagePart(image_url={"url": str(url)}):
            return {"type": "image", "source": _source(url)}
        case FilePart(file={"file_data": str(url)}):
            source = _source(url)
            if source.get("media_type") == "application/pdf":
                return {"type": "document", "source": source}
            raise Inexpressible("Anthropic takes files in PDF only: send the text of others")
        case _:
            kind = type(part).__struct_config__.tag
            raise Inexpressible(
                f"Anthropic takes text, images and PDF: a message holds a part of type `{kind}`"
            )


def _source(url: str) -> Block:
    """Where an image or a document is: in the address itself, or behind it."""
    if found := _DATA_URL.fullmatch(url):
        return {"type": "base64", "media_type": found[1] or "image/png", "data": found[2]}
    return {"type": "url", "url": url}


def _result(message: Message) -> Block:
    if message.tool_call_id is None:
        raise Inexpressible("Anthropic wants to know of which call a result is: give `tool_call_id`")
    return {
        "type": "tool_result",
        "tool_use_id": tool_id(message.tool_call_id),
        "content": _content(message.content),
    }


def _use(call: ToolCall) -> Block:
    return {
        "type": "tool_use",
        "id": tool_id(call.id),
        "name": call.function.name,
        "input": _object(call.function.arguments),
    }


def _object(arguments: str) -> dict[str, Any]:
    """Arguments as the object that is demanded; those that are none are shown to the model as such."""
    try:
        return msgspec.json.decode(arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return {"INVALID_JSON": arguments}
