"""Anthropic's Messages: wire → OpenAI's chat body, so that one decoder has the last word on both.

Source: the Messages API's reference, and the types of its official packages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from hybrid_router.api.ai_gateway.asked import written
from hybrid_router.core.errors import CallRefused, UnsupportedParameter


class Source(Struct, frozen=True, kw_only=True):
    """A picture's bytes."""

    type: str
    media_type: str = ""
    data: str = ""


class Block(Struct, frozen=True, kw_only=True):
    """A piece of a message; which fields it has follows from `type`."""

    type: str
    text: str = ""
    source: Source | None = None
    id: str = ""
    name: str = ""
    input: dict[str, Any] = field(default_factory=dict)
    tool_use_id: str = ""
    content: Any = None
    thinking: str = ""
    is_error: bool = False


class Message(Struct, frozen=True, kw_only=True):
    """One turn."""

    role: Literal["user", "assistant"]
    content: str | list[Block]


class Tool(Struct, frozen=True, kw_only=True):
    """A tool of the client's own."""

    name: str
    description: str = ""
    input_schema: dict[str, Any] = field(default_factory=dict)
    type: str | None = None


class Choice(Struct, frozen=True, kw_only=True):
    """Which tool is to be called."""

    type: Literal["auto", "any", "tool", "none"]
    name: str = ""
    disable_parallel_tool_use: bool = False


class MessagesBody(Struct, frozen=True, kw_only=True):
    """The fields that a call is made of."""

    model: str
    messages: Annotated[list[Message], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=1)]
    system: str | list[Block] = ""
    stop_sequences: list[str] = field(default_factory=list)
    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    tools: list[Tool] = field(default_factory=list)
    tool_choice: Choice | None = None


_SAME = ("model", "max_tokens", "stream", "temperature", "top_p", "top_k")
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def chat(body: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's body for the same.

    Raises:
        CallRefused: it is no call of Messages, or asks for what has no words there.
    """
    try:
        asked = msgspec.convert(body, MessagesBody)
    except msgspec.ValidationError as error:
        raise CallRefused(str(error)) from None
    except RecursionError:
        raise CallRefused("the body is nested too deeply") from None
    told: dict[str, Any] = {name: value for name in _SAME if (value := getattr(asked, name)) is not None}
    told["messages"] = [*_system(asked), *(one for message in asked.messages for one in _messages(message))]
    if asked.stop_sequences:
        told["stop"] = asked.stop_sequences
    if asked.tools:
        told["tools"] = [_tool(tool) for tool in asked.tools]
        told |= _choice(asked.tool_choice)
    if asked.messages[-1].role == "assistant":
        told["continue_final_message"] = True
    return told


def _system(asked: MessagesBody) -> list[dict[str, Any]]:
    text = asked.system if isinstance(asked.system, str) else "".join(block.text for block in asked.system)
    return [{"role": "system", "content": text}] if text else []


def _messages(message: Message) -> Iterator[dict[str, Any]]:
    """One turn, which may be several messages there: each result of a tool is one."""
    if isinstance(message.content, str):
        yield {"role": message.role, "content": message.content}
        return
    results = [block for block in message.content if block.type == "tool_result"]
    rest = [block for block in message.content if block.type != "tool_result"]
    for block in results:
        yield {"role": "tool", "tool_call_id": block.tool_use_id, "content": _result(block)}
    if rest:
        yield (
            _assistant(rest)
            if message.role == "assistant"
            else {
                "role": "user",
                "content": [_part(block) for block in rest],
            }
        )


def _assistant(blocks: list[Block]) -> dict[str, Any]:
    told: dict[str, Any] = {"role": "assistant"}
    calls = [block for block in blocks if block.type == "tool_use"]
    if text := "".join(block.text for block in blocks if block.type == "text"):
        told["content"] = text
    if thought := "".join(block.thinking for block in blocks if block.type == "thinking"):
        told["reasoning_content"] = thought
    if calls:
        told["tool_calls"] = [
            {
                "id": block.id,
                "type": "function",
                "function": {"name": block.name, "arguments": written(block.input).decode()},
            }
            for block in calls
        ]
    return told


def _part(block: Block) -> dict[str, Any]:
    if block.type == "text":
        return {"type": "text", "text": block.text}
    if block.type == "image" and block.source is not None and block.source.type == "base64":
        url = f"data:{block.source.media_type};base64,{block.source.data}"
        return {"type": "image_url", "image_url": {"url": url}}
    raise UnsupportedParameter(f"messages: a block of type {block.type[:32]!r} is not read here")


def _result(block: Block) -> str:
    """A tool's result as text."""
    if isinstance(block.content, str):
        return block.content
    parts = block.content if isinstance(block.content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    if len(texts) != len(parts):
        raise UnsupportedParameter("messages: results of tools are read as text alone")
    return "".join(text for text in texts if isinstance(text, str))


def _tool(tool: Tool) -> dict[str, Any]:
    if tool.type not in (None, "custom"):
        raise UnsupportedParameter(f"tools: {tool.type[:64]!r} runs at Anthropic alone", param="tools")
    function = {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}
    return {"type": "function", "function": function}


def _choice(choice: Choice | None) -> dict[str, Any]:
    if choice is None:
        return {}
    told: dict[str, Any] = {"parallel_tool_calls": False} if choice.disable_parallel_tool_use else {}
    if choice.type == "tool":
        return told | {"tool_choice": {"type": "function", "function": {"name": choice.name}}}
    return told | {"tool_choice": _CHOICES[choice.type]}
