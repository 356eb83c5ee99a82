"""Native bodies of text models as OpenAI writes them, so that one decoder checks both.  Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from hybrid_router.api import gallery
from hybrid_router.api.workers_ai.forms import fields
from hybrid_router.core.errors import CallRefused, UnsupportedParameter
from hybrid_router.core.upload import Upload

_LIMITS = ("max_tokens", "max_completion_tokens")
_SKIPPED = ("functions", "raw", "prompt", "image", "input", "instructions")
# Of the Responses form: what else it has changes no text, or is refused.
_INPUT_RENAMED = {"max_output_tokens": "max_completion_tokens"}
_INPUT_KEPT = ("temperature", "top_p", "user", "metadata", "seed", "max_output_tokens")
_INPUT_TEXTS = frozenset({"input_text", "output_text", "text"})


def chat(body: Mapping[str, Any], *, default_max_tokens: int | None) -> dict[str, Any]:
    """A body with `messages` or `prompt` as one of `/v1/chat/completions`; `model` is the caller's to add.

    Args:
        default_max_tokens: where an answer ends that nobody bounded; None: where the model ends it.

    Raises:
        CallRefused: there is neither, or a picture that cannot be read.
    """
    out = {name: value for name, value in body.items() if name not in _SKIPPED}
    out["messages"] = _messages(body)
    if body.get("image") is not None:
        out["messages"] = with_picture(out["messages"], data_url(picture(body["image"], "image")))
    if default_max_tokens is not None and all(body.get(name) is None for name in _LIMITS):
        out["max_tokens"] = default_max_tokens
    if isinstance(body.get("tools"), list):
        out["tools"] = [_wrapped_tool(tool) for tool in body["tools"]]
    if isinstance(body.get("lora"), str):
        out["lora"] = [{"name": body["lora"]}]
    if isinstance(body.get("response_format"), dict):
        out["response_format"] = _wrapped_format(body["response_format"])
    return out


def completion(body: Mapping[str, Any], *, default_max_tokens: int) -> dict[str, Any]:
    """A body with a `prompt` that no template is put around, as one of `/v1/completions`; -1: no bound."""
    out = {name: value for name, value in body.items() if name not in _SKIPPED and name != "tools"}
    out["prompt"] = body["prompt"]
    if out.get("max_tokens") is None:
        out["max_tokens"] = out.pop("max_completion_tokens", None) or default_max_tokens
    if isinstance(body.get("lora"), str):
        out["lora"] = [{"name": body["lora"]}]
    if isinstance(body.get("response_format"), dict):
        out["response_format"] = _wrapped_format(body["response_format"])
    return out


def responses(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body with `input`, OpenAI's Responses form, its plain text alone.

    Raises:
        UnsupportedParameter: it asks for a stream, tools, or a conversation that is kept somewhere.
    """
    for name in ("stream", "tools", "conversation", "previous_response_id", "background"):
        if body.get(name):
            raise UnsupportedParameter(f"'/{name}' does not go with '/input' here", param=f"/{name}")
    out = {_INPUT_RENAMED.get(name, name): body[name] for name in _INPUT_KEPT if body.get(name) is not None}
    reasoning = body.get("reasoning")
    if isinstance(reasoning, dict) and reasoning.get("effort") is not None:
        out["reasoning_effort"] = reasoning["effort"]
    form = body["text"].get("format") if isinstance(body.get("text"), dict) else None
    if isinstance(form, dict):
        out["response_format"] = _format_of_input(form)
    out["messages"] = _from_input(body)
    return out


def picture(value: Any, field: str) -> bytes:
    """A picture's bytes: a list of them, base64 or a data: URL."""
    if not isinstance(value, str | list):
        raise CallRefused(f"Type mismatch of '/{field}': expected bytes or base64", param=f"/{field}")
    return fields.content(value, field)


def content_of(upload: Upload) -> bytes:
    """A file's bytes."""
    with upload.mapped() as pages:
        return bytes(pages)


def data_url(content: bytes) -> str:
    """A picture as messages carry one."""
    return f"data:{gallery.media_type(content)};base64,{base64.b64encode(content).decode()}"


def with_picture(messages: list[Any], url: str) -> list[Any]:
    """`messages` with a picture in the last of the user's."""
    part = {"type": "image_url", "image_url": {"url": url}}
    for place in range(len(messages) - 1, -1, -1):
        message = messages[place]
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content")
            texts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
            return [*messages[:place], message | {"content": [part, *texts]}, *messages[place + 1 :]]
    return [*messages, {"role": "user", "content": [part]}]


def _messages(body: Mapping[str, Any]) -> list[Any]:
    if isinstance(messages := body.get("messages"), list):
        return _linked([_message(message) for message in messages])
    if messages is not None:
        raise CallRefused("Type mismatch of '/messages', 'array' expected", param="/messages")
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise CallRefused("required properties at '/' are 'prompt' or 'messages'", param="/")
    return [{"role": "user", "content": prompt}]


def _message(message: Any) -> Any:
    """One whose content is a single part has a list of it."""
    if isinstance(message, dict) and isinstance(message.get("content"), dict):
        return message | {"content": [message["content"]]}
    return message


def _linked(messages: list[Any]) -> list[Any]:
    """Tool calls with an id and OpenAI's form, and each tool's message with the id of the call it answers."""
    open_calls: list[tuple[str, str]] = []  # name, id
    linked = []
    for place, message in enumerate(messages):
        if isinstance(message, dict) and isinstance(message.get("tool_calls"), list):
            calls = [_tool_call(call, f"call_{place}_{i}") for i, call in enumerate(message["tool_calls"])]
            message = message | {"tool_calls": calls}  # noqa: PLW2901 -- a copy: the body stays as it came
            open_calls += [(c["function"].get("name", ""), c["id"]) for c in calls if isinstance(c, dict)]
        elif isinstance(message, dict) and message.get("role") == "tool":
            message = _answering(message, open_calls)  # noqa: PLW2901
        linked.append(message)
    return linked


def _answering(message: dict[str, Any], open_calls: list[tuple[str, str]]) -> dict[str, Any]:
    """A tool's message that names no call answers the first of its name that is open, else the first."""
    if message.get("tool_call_id"):
        return message
    named = [call for call in open_calls if call[0] == message.get("name")] or open_calls
    if not named:
        return message
    open_calls.remove(named[0])
    return message | {"tool_call_id": named[0][1]}


def _tool_call(call: Any, otherwise: str) -> Any:
    """A tool call in either form, as OpenAI's."""
    if not isinstance(call, dict):
        return call
    function = call.get("function")
    function = dict(function) if isinstance(function, dict) else {"name": call.get("name")}
    arguments = function.get("arguments", call.get("arguments", {}))
    function["arguments"] = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": call.get("id") or otherwise, "type": "function", "function": function}


def _wrapped_tool(tool: Any) -> Any:
    """A tool that is written flat, in OpenAI's wrapping."""
    if isinstance(tool, dict) and "function" not in tool and "name" in tool:
        return {"type": "function", "function": tool}
    return tool


def _wrapped_format(form: dict[str, Any]) -> dict[str, Any]:
    """`response_format` whose schema is bare, as classic models take it, in OpenAI's wrapping."""
    schema = form.get("json_schema")
    if form.get("type") != "json_schema" or not isinstance(schema, dict):
        return form
    if isinstance(schema.get("schema"), dict):
        return form | {"json_schema": {"name": "answer", **schema}}
    return form | {"json_schema": {"name": "answer", "schema": schema}}


def _format_of_input(form: dict[str, Any]) -> dict[str, Any]:
    """`text.format` of a Responses body as `response_format`."""
    if form.get("type") != "json_schema":
        return form
    inner = {name: form[name] for name in ("name", "schema", "strict") if name in form}
    return {"type": "json_schema", "json_schema": {"name": "answer", **inner}}


def _from_input(body: Mapping[str, Any]) -> list[Any]:
    told, given = body.get("instructions"), body["input"]
    before = [{"role": "system", "content": told}] if isinstance(told, str) and told else []
    if isinstance(given, str) and given:
        return [*before, {"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise CallRefused("Type mismatch of '/input': expected a text or a list of messages", param="/input")
    return [*before, *(_item(item, f"/input/{place}") for place, item in enumerate(given))]


def _item(item: Any, param: str) -> dict[str, Any]:
    """One message of `input`."""
    if not isinstance(item, dict) or item.get("type", "message") != "message" or "content" not in item:
        raise UnsupportedParameter(f"'{param}': only messages are read here", param=param)
    content = item["content"]
    if isinstance(content, list):
        content = [_input_part(part, f"{param}/content/{i}") for i, part in enumerate(content)]
    return {"role": item.get("role"), "content": content}


def _input_part(part: Any, param: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in _INPUT_TEXTS:
        return {"type": "text", "text": part.get("text")}
    if kind == "input_image":
        return {"type": "image_url", "image_url": {"url": part.get("image_url")}}
    raise UnsupportedParameter(f"'{param}': only text and images are read here", param=param)
