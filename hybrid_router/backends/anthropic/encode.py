"""A chat in Anthropic's words.  Source: the reference of the Messages API, version 2023-06-01."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from hybrid_router.backends import unsaid
from hybrid_router.backends.anthropic import messages
from hybrid_router.backends.prefill import tokens_left, with_written
from hybrid_router.core.call import Call, Sampling
from hybrid_router.core.errors import Inexpressible

EXTRA_FIELDS = frozenset({"metadata", "service_tier", "thinking"})
FEWEST_THOUGHTS_TOKENS = 1024
MOST_TEMPERATURE = 1.0
_EFFORTS = frozenset({"low", "medium", "high", "xhigh", "max"})
_NO_EFFORT = frozenset({"none", "minimal"})
_UNKNOWN = (
    "presence_penalty", "frequency_penalty", "repeat_penalty", "seed", "logit_bias", "min_p", "typical_p",
    "dry_multiplier", "xtc_probability", "mirostat", "ignore_eos", "max_tokens: 0", "logprobs", "lora",
    "chat_template_kwargs",
)  # fmt: skip


class Request(Struct, frozen=True, kw_only=True):
    """One request to `/v1/messages`.

    Attributes:
        lead: white space at the end of what is written, which may not be sent: the model may write it anew.
    """

    body: bytes
    lead: str = ""


def request(call: Call, model: str, default_max_tokens: int) -> Request:
    """The request for one choice of `call`; each of its choices is asked for so.

    Raises:
        Inexpressible: Anthropic cannot express the call; the message names the field.
    """
    unsaid.check(call, _UNKNOWN, "Anthropic")
    if (call.sampling.temperature or 0.0) > MOST_TEMPERATURE:
        raise Inexpressible("Anthropic takes a `temperature` of at most 1", param="temperature")
    told = call.sampling.max_tokens
    asked = with_written(call)
    turns = messages.turns(asked.messages)
    if not turns:
        raise Inexpressible(
            "Anthropic wants a message that is not empty beside the system's", param="messages"
        )
    if turns[-1]["role"] == "assistant" and not (call.goes_on or call.written):
        raise Inexpressible(
            "Anthropic goes on from a last message of the assistant's: it is to be the user's"
        )
    lead = _without_trailing_space(turns)
    document: dict[str, Any] = {
        "model": model,
        "max_tokens": tokens_left(default_max_tokens if told is None else told, call),
        "messages": turns,
        "stream": True,
        **{name: call.extra[name] for name in EXTRA_FIELDS & call.extra.keys()},
        **_sampling(call.sampling),
        **_tools(call),
        **_thinking(call),
    }
    if said := messages.system(asked.messages):
        document["system"] = said
    if output := _output(call):
        document["output_config"] = output
    return Request(body=msgspec.json.encode(document), lead=lead)


def _without_trailing_space(turns: list[messages.Block]) -> str:
    """Take the white space off the end of the assistant's last turn, where it is refused, and give it."""
    block = turns[-1]["content"][-1]
    if turns[-1]["role"] != "assistant" or block["type"] != "text":
        return ""
    text: str = block["text"]
    block["text"] = text.rstrip()
    if not block["text"]:
        turns[-1]["content"].pop()
        if not turns[-1]["content"]:
            turns.pop()
    return text[len(text.rstrip()) :]


def _sampling(sampling: Sampling) -> dict[str, Any]:
    # A stop string of nothing but white space is refused; the answer is cut here anyway.
    stops = [stop for stop in sampling.stop if stop.strip()]
    fields = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or None,
        "stop_sequences": stops or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _thinking(call: Call) -> dict[str, Any]:
    """How much may be thought.

    Thoughts are signed and signatures do not come back to us, so a turn that goes on from a tool's result
    goes on without any: with them, it would be refused.
    """
    budget = call.reasoning_tokens
    if budget == 0 or call.reasoning_effort in _NO_EFFORT or (budget and _answers_a_tool(call)):
        return {"thinking": {"type": "disabled"}}
    if budget is None:
        return {}
    if budget < FEWEST_THOUGHTS_TOKENS:
        raise Inexpressible(f"Anthropic takes a `reasoning_budget` of 0 or at least {FEWEST_THOUGHTS_TOKENS}")
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _answers_a_tool(call: Call) -> bool:
    return bool(call.messages) and call.messages[-1].role in {"tool", "function"}


def _output(call: Call) -> dict[str, Any]:
    """How hard the model tries, and the answer's form.

    Raises:
        Inexpressible: the form has no schema.
    """
    found: dict[str, Any] = {}
    if call.reasoning_effort is not None and call.reasoning_effort not in _NO_EFFORT:
        if call.reasoning_effort not in _EFFORTS:
            raise Inexpressible(f"Anthropic knows no `reasoning_effort` {call.reasoning_effort!r}")
        found["effort"] = call.reasoning_effort
    form = call.response_format or {"type": "text"}
    match form:
        case {"type": "text"}:
            pass
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            found["format"] = {"type": "json_schema", "schema": schema}
        case _:
            raise Inexpressible("Anthropic takes a `response_format` with a JSON schema only")
    return found


def _tools(call: Call) -> dict[str, Any]:
    """The tools, and which of them may or must be called."""
    choice, tools = call.tool_choice, call.tools
    match choice:
        case {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(allowed)}}:
            names = {tool["function"]["name"] for tool in allowed}
            tools = tuple(tool for tool in tools if tool["function"]["name"] in names)
            choice = mode
    if not tools:
        return {}
    chosen = _choice(choice)
    if call.parallel_tool_calls is False and chosen["type"] != "none":
        chosen["disable_parallel_tool_use"] = True
    fields: dict[str, Any] = {"tools": [_tool(tool["function"]) for tool in tools]}
    return fields if chosen == {"type": "auto"} else {**fields, "tool_choice": chosen}


def _choice(choice: Any) -> dict[str, Any]:
    match choice:
        case {"function": {"name": str(name)}}:
            return {"type": "tool", "name": name}
        case "required":
            return {"type": "any"}
        case "none":
            return {"type": "none"}
    return {"type": "auto"}


def _tool(function: dict[str, Any]) -> dict[str, Any]:
    described = {"description": function["description"]} if function.get("description") else {}
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    return {"name": function["name"], **described, "input_schema": schema}
