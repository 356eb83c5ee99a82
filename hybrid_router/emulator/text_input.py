"""Bodies of Workers AI into calls, and which shape their answers take."""

from __future__ import annotations

import json
from typing import Any, cast

import msgspec
from msgspec.structs import replace

from hybrid_router.api.workers_ai.forms.chat import CLASSIC_MAX_TOKENS
from hybrid_router.api.workers_ai.refusal import Refusal
from hybrid_router.api.workers_ai.text_documents import Shape
from hybrid_router.catalogue.workers_ai import TEXT_GENERATION, Model
from hybrid_router.core import ids
from hybrid_router.core.call import Call, FunctionCall, Message, Operation, Part, Sampling, TextPart, ToolCall

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


def form_of(model: Model, body: dict[str, Any], *, openai: bool) -> Shape:
    """The shape in which `model` answers `body`.

    Raises:
        Refusal: 5007, the emulator does not play this kind of model yet.
    """
    if model.task != TEXT_GENERATION or model.native_result == "answers":
        raise Refusal(5007, f"No such model {model.id} or task (the emulator does not play it yet)")
    if openai or model.native_result == "chat.completion":
        return "chat"
    if model.native_result == "response":
        return "classic"
    if "messages" in body:
        return "chat"
    return "responses" if "input" in body else "completion"


def repaired(body: dict[str, Any]) -> dict[str, Any]:
    """`body` with the null content of an assistant's tool calls as "", which the service accepts."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        return body
    return body | {"messages": [_without_null_content(message) for message in messages]}


def _without_null_content(message: Any) -> Any:
    calls_tools = isinstance(message, dict) and message.get("tool_calls")
    return message | {"content": ""} if calls_tools and message.get("content") is None else message


def call_from(model: Model, body: dict[str, Any], form: Shape, *, openai: bool) -> Call:
    """The call that a valid `body` makes."""
    messages, prompts = _asked(body, form)
    chat_fields = openai or form != "classic"
    return Call(
        id=ids.new("emu_"),
        operation=Operation.COMPLETE if prompts else Operation.CHAT,
        alias=model.id,
        messages=messages,
        prompts=prompts,
        sampling=_sampling(model, body, stop=chat_fields),
        n=int(body.get("n") or 1) if chat_fields else 1,
        stream=bool(body.get("stream")),
        tools=tuple(body.get("tools") or ()),
        tool_choice=body.get("tool_choice"),
        response_format=body.get("response_format"),
    )


def begun(call: Call, model: Model, *, goes_on: bool) -> Call:
    """`call` as a model takes a last message of the assistant.

    One that goes on from it gets it as the beginning of its answer.  Classic models take it for a finished
    turn and answer anew.

    Raises:
        Refusal: 8007, all others.
    """
    if not call.messages or call.messages[-1].role != "assistant":
        return call
    if goes_on:
        return replace(call, messages=call.messages[:-1], written=call.messages[-1].text)
    if model.native_result != "response":
        raise Refusal(8007, "the last message must have the role user or tool, not assistant")
    return call


def _asked(body: dict[str, Any], form: Shape) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """Messages or prompts; a prompt without `raw` goes through the chat template, as the service does."""
    if "messages" in body:
        return tuple(_message(message) for message in body["messages"]), ()
    if "input" in body:
        return _from_input(body), ()
    if form == "completion" or body.get("raw"):
        return (), (body["prompt"],)
    return (Message(role="user", content=body["prompt"]),), ()


def _from_input(body: dict[str, Any]) -> tuple[Message, ...]:
    """The messages of a Responses body."""
    instructions = body.get("instructions")
    before = [Message(role="system", content=instructions)] if isinstance(instructions, str) else []
    given = body["input"]
    if isinstance(given, str):
        return (*before, Message(role="user", content=given))
    return (*before, *(_message(item) for item in given if isinstance(item, dict) and "content" in item))


def _message(raw: dict[str, Any]) -> Message:
    """One message; what the core has no word for becomes text or is left out."""
    role = raw.get("role")
    calls = [_tool_call(call, place) for place, call in enumerate(raw.get("tool_calls") or ())]
    return Message(
        role=role if role in _ROLES else "user",
        content=_content(raw.get("content")),
        name=raw.get("name"),
        tool_calls=calls or None,
        tool_call_id=raw.get("tool_call_id"),
    )


def _content(raw: Any) -> str | list[Part] | None:
    if raw is None or isinstance(raw, str):
        return raw
    parts = raw if isinstance(raw, list) else [raw]
    return [_part(part) for part in parts]


def _part(raw: Any) -> Part:
    try:
        return cast(Part, msgspec.convert(raw, Part))
    except msgspec.ValidationError:
        text = raw.get("text") if isinstance(raw, dict) else raw
        return TextPart(text if isinstance(text, str) else "")


def _tool_call(raw: dict[str, Any], place: int) -> ToolCall:
    """A tool call in either form: flat with an arguments object, or OpenAI's."""
    function = raw.get("function") or raw
    arguments = function.get("arguments", {})
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return ToolCall(
        id=raw.get("id") or f"call_{place}",
        function=FunctionCall(name=function.get("name", ""), arguments=text),
    )


def _sampling(model: Model, body: dict[str, Any], *, stop: bool) -> Sampling:
    """How to choose tokens; classic models end after 256 unless told otherwise."""
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or body.get("max_output_tokens")
    if limit is None and model.native_result == "response":
        limit = CLASSIC_MAX_TOKENS
    stops = body.get("stop") if stop else None
    return Sampling(
        max_tokens=None if limit is None else int(limit),
        temperature=body.get("temperature"),
        top_p=body.get("top_p"),
        top_k=None if body.get("top_k") is None else int(body["top_k"]),
        presence_penalty=body.get("presence_penalty"),
        frequency_penalty=body.get("frequency_penalty"),
        repeat_penalty=body.get("repetition_penalty"),
        seed=None if body.get("seed") is None else int(body["seed"]),
        stop=(stops,) if isinstance(stops, str) else tuple(stops or ()),
    )
