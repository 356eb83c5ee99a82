"""Whole answers in the shapes of Workers AI: folds over a backend's events.  Pure."""

from __future__ import annotations

import json
from typing import Any, Literal, TypeAlias

from msgspec import Struct, field

from hybrid_router.core.event import Batch, Finish, FinishReason, Reasoning, Text, ToolFragment, Usage

# The shapes of an answer: `{"response"}`, `chat.completion`, `text_completion`, and `response`.
Shape: TypeAlias = Literal["classic", "chat", "completion", "responses"]


class Tool(Struct):
    """One tool call that is being put together."""

    id: str = ""
    name: str = ""
    arguments: str = ""


class Choice(Struct):
    """One choice that is being put together."""

    text: str = ""
    reasoning: str = ""
    tools: dict[int, Tool] = field(default_factory=dict)
    finish: FinishReason | None = None


class Answer(Struct):
    """All that a backend has said so far."""

    choices: dict[int, Choice] = field(default_factory=dict)
    usage: Usage | None = None
    pieces_count: int = 0

    def take(self, batch: Batch) -> None:
        """Add a batch."""
        for event in batch:
            if isinstance(event, Usage):
                self.usage = event
                continue
            choice = self.choices.setdefault(event.index, Choice())
            match event:
                case Text(text):
                    choice.text += text
                    self.pieces_count += 1
                case Reasoning(text):
                    choice.reasoning += text
                    self.pieces_count += 1
                case ToolFragment():
                    _add(choice.tools.setdefault(event.position, Tool()), event)
                    self.pieces_count += 1
                case Finish(reason):
                    choice.finish = reason


def _add(tool: Tool, fragment: ToolFragment) -> None:
    tool.id = fragment.id or tool.id
    tool.name = fragment.name or tool.name
    tool.arguments += fragment.arguments


class Stamp(Struct, frozen=True, kw_only=True):
    """What every document of one answer carries."""

    id: str
    created: int
    model: str


def usage_of(usage: Usage, neurons: float | None = None) -> dict[str, Any]:
    """Usage as the chat forms write it; the classic form has the first three alone."""
    counted: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
    if neurons is not None:
        counted["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
        counted["neurons"] = neurons
    return counted


def classic_tools(choice: Choice) -> list[dict[str, Any]]:
    """Tool calls as classic models write them: arguments are an object; with OpenAI's form beside it.

    Some of their schemas ask for the one, some for the other, and some for both.
    """
    return [
        {"name": call["function"]["name"], "arguments": _parsed(call["function"]["arguments"]), **call}
        for call in openai_tools(choice)
    ]


def openai_tools(choice: Choice) -> list[dict[str, Any]]:
    """Tool calls as OpenAI writes them: arguments are a string."""
    return [
        {"id": tool.id, "type": "function", "function": {"name": tool.name, "arguments": tool.arguments}}
        for _, tool in sorted(choice.tools.items())
    ]


def document(
    form: Shape, answer: Answer, usage: Usage, neurons: float, stamp: Stamp, *, as_json: bool
) -> dict[str, Any]:
    """The whole answer in `form`.  `as_json`: the call asked for JSON, which classic models parse."""
    if form == "classic":
        return _classic(answer, usage, as_json=as_json)
    if form == "responses":
        return _responses(answer, usage, neurons, stamp)
    make = _chat_choice if form == "chat" else _completion_choice
    return {
        "id": stamp.id,
        "object": "chat.completion" if form == "chat" else "text_completion",
        "created": stamp.created,
        "model": stamp.model,
        "choices": [make(index, choice) for index, choice in sorted(answer.choices.items())],
        "usage": usage_of(usage, neurons),
    }


def _classic(answer: Answer, usage: Usage, *, as_json: bool) -> dict[str, Any]:
    choice = answer.choices.get(0, Choice())
    result: dict[str, Any] = {"response": _parsed(choice.text) if as_json else choice.text}
    if choice.tools:
        result["tool_calls"] = classic_tools(choice)
    return result | {"usage": usage_of(usage)}


def _chat_choice(index: int, choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text or None, "refusal": None}
    if choice.reasoning:
        message["reasoning_content"] = choice.reasoning
    if choice.tools:
        message["tool_calls"] = openai_tools(choice)
    return {"index": index, "message": message, "logprobs": None, "finish_reason": choice.finish}


def _completion_choice(index: int, choice: Choice) -> dict[str, Any]:
    return {"index": index, "text": choice.text, "logprobs": None, "finish_reason": choice.finish}


def _responses(answer: Answer, usage: Usage, neurons: float, stamp: Stamp) -> dict[str, Any]:
    """OpenAI's Responses object, its text output alone."""
    choice = answer.choices.get(0, Choice())
    content = {"type": "output_text", "text": choice.text, "annotations": []}
    cut = choice.finish == "length"
    status = "incomplete" if cut else "completed"
    message = {
        "type": "message",
        "id": f"msg_{stamp.id}",
        "role": "assistant",
        "status": status,
        "content": [content],
    }
    return {
        "id": stamp.id,
        "object": "response",
        "created_at": stamp.created,
        "model": stamp.model,
        "status": status,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": [message],
        "usage": {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens},
            "output_tokens_details": {"reasoning_tokens": 0},
            "output_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            "neurons": neurons,
        },
    }


def _parsed(text: str) -> Any:
    """`text` as JSON; a truncated answer stays text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
