"""A request to `/v1/messages` as a call: what is missing or not known is refused, as there."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType

from hybrid_router.core import ids
from hybrid_router.core.call import (
    Call,
    FunctionCall,
    ImagePart,
    Message,
    Operation,
    Part,
    Sampling,
    TextPart,
    ToolCall,
)
from hybrid_router.emulator.stage import invalid

Document: TypeAlias = dict[str, Any]
# What a block must have; of those that are not read here, its type.
_NEEDED: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "text": ("text",),
    "tool_use": ("id", "name", "input"),
    "tool_result": ("tool_use_id",),
})  # fmt: skip


class _Turn(Struct, forbid_unknown_fields=True):
    role: Literal["user", "assistant"]
    content: str | list[Document]


class _Tool(Struct):
    name: str
    input_schema: Document
    description: str = ""


class _Choice(Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str = ""


class _Thinking(Struct):
    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: int = 0


class _Request(Struct, forbid_unknown_fields=True):
    model: str
    max_tokens: int
    messages: list[_Turn]
    system: str | list[Document] = ""
    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] = []
    tools: list[_Tool] = []
    tool_choice: _Choice | None = None
    thinking: _Thinking | UnsetType = UNSET
    output_config: Document = {}
    metadata: Document = {}
    service_tier: str = "auto"


def call(body: Document) -> Call:
    """What is asked.

    Raises:
        Refusal: it is no request of the API's; the message names the field.
    """
    try:
        asked = msgspec.convert(body, _Request)
    except msgspec.ValidationError as error:
        raise invalid(str(error)) from None
    _check(asked)
    messages = [message for turn in asked.messages for message in _messages(turn)]
    if system := _text(asked.system):
        messages.insert(0, Message(role="system", content=system))
    return Call(
        id=ids.new("msg_"),
        operation=Operation.CHAT,
        alias=asked.model,
        messages=tuple(messages),
        sampling=Sampling(
            max_tokens=asked.max_tokens,
            temperature=asked.temperature,
            stop=tuple(asked.stop_sequences),
        ),
        stream=asked.stream,
        tools=tuple(_tool(tool) for tool in asked.tools),
        tool_choice=_choice(asked.tool_choice),
        response_format=_form(asked.output_config.get("format")),
        goes_on=asked.messages[-1].role == "assistant",
    )


def _check(asked: _Request) -> None:
    """What the service refuses, in its order."""
    if asked.max_tokens < 1:
        raise invalid("max_tokens: Input should be greater than or equal to 1")
    if not asked.messages:
        raise invalid("messages: at least one message is required")
    last = asked.messages[-1]
    if last.role == "assistant" and (text := _text(last.content)) != text.rstrip():
        raise invalid("messages: final assistant content cannot end with trailing whitespace")
    if any(not stop.strip() for stop in asked.stop_sequences):
        raise invalid("stop_sequences: each stop sequence must contain non-whitespace")
    for place, turn in enumerate(asked.messages):
        for block in _blocks(turn):
            _check_block(f"messages.{place}", block)


def _check_block(where: str, block: Document) -> None:
    needed = _NEEDED.get(str(block.get("type")), ("type",))
    if missing := [name for name in needed if name not in block]:
        raise invalid(f"{where}.content: {missing[0]}: Field required")
    if block["type"] == "text" and not block["text"]:
        raise invalid(f"{where}: text content blocks must be non-empty")
    if block["type"] == "tool_result" and not _is_content(block.get("content", "")):
        raise invalid(f"{where}.content: content: Input should be a string or a list of content blocks")


def _is_content(told: Any) -> bool:
    if isinstance(told, list):
        return all(isinstance(block, dict) for block in told)
    return isinstance(told, str)


def _messages(turn: _Turn) -> list[Message]:
    """A turn as messages: each result of a tool is one of its own."""
    blocks = _blocks(turn)
    results = [
        Message(role="tool", content=_text(block.get("content", "")), tool_call_id=block["tool_use_id"])
        for block in blocks
        if block["type"] == "tool_result"
    ]
    parts = [part for block in blocks if (part := _part(block)) is not None]
    calls = [_tool_call(block) for block in blocks if block["type"] == "tool_use"]
    if parts or calls:
        results.append(Message(role=turn.role, content=parts, tool_calls=calls or None))
    return results


def _blocks(turn: _Turn) -> list[Document]:
    return turn.content if isinstance(turn.content, list) else [{"type": "text", "text": turn.content}]


def _part(block: Document) -> Part | None:
    match block:
        case {"type": "text", "text": str(text)}:
            return TextPart(text)
        case {"type": "image", "source": {"media_type": str(kind), "data": str(data)}}:
            return ImagePart({"url": f"data:{kind};base64,{data}"})
        case {"type": "image", "source": {"url": str(url)}}:
            return ImagePart({"url": url})
    return None


def _tool_call(block: Document) -> ToolCall:
    arguments = msgspec.json.encode(block["input"]).decode()
    return ToolCall(id=block["id"], function=FunctionCall(block["name"], arguments))


def _text(content: str | list[Document]) -> str:
    if isinstance(content, str):
        return content
    return "".join(str(block.get("text", "")) for block in content)


def _tool(tool: _Tool) -> Document:
    described = {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}
    return {"type": "function", "function": described}


def _choice(choice: _Choice | None) -> Any:
    match choice:
        case _Choice(type="any"):
            return "required"
        case _Choice(type="tool", name=name):
            return {"type": "function", "function": {"name": name}}
        case _Choice(type="none"):
            return "none"
    return None


def _form(asked: Any) -> Document | None:
    match asked:
        case {"type": "json_schema", "schema": dict(schema)}:
            return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return None
