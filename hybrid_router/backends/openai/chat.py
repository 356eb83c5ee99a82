"""Chats and completions in OpenAI's words.  Always written anew from the parsed call, never forwarded."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from hybrid_router.backends import unsaid
from hybrid_router.backends.prefill import tokens_left, with_written
from hybrid_router.core.call import Call, Message, Operation, Sampling
from hybrid_router.core.errors import Inexpressible

MOST_STOPS = 4
_UNKNOWN = ("echo", "suffix", "lora", "max_tokens: 0", "grammar")
_BEYOND_OPENAI = ("reasoning_budget", "chat_template_kwargs")
_GOES_ON = {"continue_final_message": True, "add_generation_prompt": False}


class Manner(Struct, frozen=True, kw_only=True):
    """How a server is spoken to.

    Attributes:
        label: its name in messages.
        strict: it refuses fields that OpenAI does not have, so they are not sent.
        max_tokens_field: how a chat's limit is called.
        default_max_tokens: sent where the client names none; None: nothing is.
        extra_fields: what of `Call.extra` is passed on.
    """

    label: str
    strict: bool
    max_tokens_field: str = "max_tokens"
    default_max_tokens: int | None = None
    extra_fields: frozenset[str] = frozenset()


def document(call: Call, model: str, manner: Manner) -> dict[str, Any]:
    """The body of a call that is answered in text, always as a stream that tells what it cost.

    Raises:
        Inexpressible: there is no word for something that would change the answer; it is named.
    """
    _check(call, manner)
    is_chat = call.operation is Operation.CHAT
    asked = _chat(with_written(call), manner) if is_chat else _completion(with_written(call))
    return {
        "model": model,
        **asked,
        "stream": True,
        "stream_options": {"include_usage": True},
        **({"n": call.n} if call.n > 1 else {}),
        **_limit(call, manner),
        **_sampling(call.sampling, manner),
        **extra(call, manner),
    }


def extra(call: Call, manner: Manner) -> dict[str, Any]:
    """Fields that are passed on as they came."""
    return {name: call.extra[name] for name in manner.extra_fields & call.extra.keys()}


def local_stops(call: Call) -> tuple[str, ...]:
    """The stop strings that the server cannot keep: too many, or one may begin in what it did not write."""
    stops = call.sampling.stop
    return stops if call.written or len(stops) > MOST_STOPS else ()


def _check(call: Call, manner: Manner) -> None:
    """Name the first thing that cannot be said."""
    unsaid.check(call, (*_UNKNOWN, *(_BEYOND_OPENAI if manner.strict else ())), manner.label)
    if manner.strict and (name := next(iter(_beyond_openai(call.sampling)), None)) is not None:
        raise Inexpressible(f"{manner.label} takes no `{name}`")


def _chat(call: Call, manner: Manner) -> dict[str, Any]:
    fields: dict[str, Any] = {"messages": [_message(each, manner) for each in call.messages]}
    if call.goes_on or call.written:
        fields |= _GOES_ON
    if call.tools:
        fields["tools"] = list(call.tools)
        optional = {"tool_choice": call.tool_choice, "parallel_tool_calls": call.parallel_tool_calls}
        fields |= {name: value for name, value in optional.items() if value is not None}
    if call.response_format is not None and call.response_format.get("type") != "text":
        fields["response_format"] = call.response_format
    if call.top_logprobs is not None:
        fields |= {"logprobs": True, "top_logprobs": call.top_logprobs}
    if call.reasoning_effort is not None:
        fields["reasoning_effort"] = call.reasoning_effort
    if call.reasoning_tokens is not None:
        fields["reasoning_budget"] = call.reasoning_tokens
    if call.template_values:
        fields["chat_template_kwargs"] = call.template_values
    return fields


def _completion(call: Call) -> dict[str, Any]:
    prompts = [each if isinstance(each, str) else list(each) for each in call.prompts]
    fields: dict[str, Any] = {"prompt": prompts[0] if len(prompts) == 1 else prompts}
    if call.top_logprobs is not None:
        fields["logprobs"] = call.top_logprobs
    return fields


def _message(message: Message, manner: Manner) -> dict[str, Any]:
    """A message as it is; others' templates know no developer, and OpenAI no earlier reasoning."""
    fields: dict[str, Any] = msgspec.to_builtins(message)
    if manner.strict:
        fields.pop("reasoning_content", None)
    elif message.role == "developer":
        fields["role"] = "system"
    fields.setdefault("content", None)
    return fields


def _limit(call: Call, manner: Manner) -> dict[str, int]:
    told = call.sampling.max_tokens
    most = manner.default_max_tokens if told is None else told
    if most is None:
        return {}
    is_chat = call.operation is Operation.CHAT
    return {manner.max_tokens_field if is_chat else "max_tokens": tokens_left(most, call)}


def _sampling(sampling: Sampling, manner: Manner) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "seed": sampling.seed,
        "logit_bias": {str(token): bias for token, bias in (sampling.logit_bias or {}).items()} or None,
        "stop": list(sampling.stop) if 0 < len(sampling.stop) <= MOST_STOPS else None,
    }
    beyond = {} if manner.strict else _beyond_openai(sampling)
    return {name: value for name, value in fields.items() if value is not None} | beyond


def _beyond_openai(sampling: Sampling) -> dict[str, Any]:
    """What llama-server, vLLM and other routers know besides, where it changes the answer."""
    penalty = None if sampling.repeat_penalty == 1.0 else sampling.repeat_penalty
    fields: dict[str, Any] = {
        "top_k": sampling.top_k,
        "min_p": sampling.min_p or None,
        "typical_p": None if sampling.typical_p == 1.0 else sampling.typical_p,
        "repeat_penalty": penalty,
        "repetition_penalty": penalty,
        "repeat_last_n": sampling.repeat_last_n if penalty else None,
        "dry_multiplier": sampling.dry_multiplier or None,
        "xtc_probability": sampling.xtc_probability or None,
        "mirostat": sampling.mirostat or None,
        "ignore_eos": sampling.ignore_eos or None,
    }
    if sampling.dry_multiplier:
        fields |= {
            "dry_base": sampling.dry_base,
            "dry_allowed_length": sampling.dry_allowed_length,
            "dry_penalty_last_n": sampling.dry_penalty_last_n,
        }
    if sampling.xtc_probability:
        fields["xtc_threshold"] = sampling.xtc_threshold
    if sampling.mirostat:
        fields |= {"mirostat_tau": sampling.mirostat_tau, "mirostat_eta": sampling.mirostat_eta}
    return {name: value for name, value in fields.items() if value is not None}
