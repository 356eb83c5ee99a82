"""A call in Workers AI's words.  Always written anew from the parsed call, never forwarded.

Chat goes to `/ai/v1/chat/completions` or to the model's native `/ai/run`, whichever is configured, and to
the other one where only that can express the call.  Completions exist only natively, as a raw prompt.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias
from urllib.parse import quote

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from hybrid_router.backends import unsaid
from hybrid_router.backends.prefill import tokens_left, with_written
from hybrid_router.backends.workers_ai.declarations import described
from hybrid_router.backends.workers_ai.leaks import forced
from hybrid_router.backends.workers_ai.messages import encoded
from hybrid_router.core.call import Call, Operation, Sampling
from hybrid_router.core.errors import Inexpressible

Endpoint: TypeAlias = Literal["v1", "run"]

EXTRA_FIELDS = frozenset(
    {
        "metadata",
        "prediction",
        "service_tier",
        "user",
        "web_search_options",
    }
)
_LOGPROBS = "logprobs"
_UNKNOWN = (
    "min_p",
    "typical_p",
    "repeat_last_n",
    "dry_multiplier",
    "xtc_probability",
    "mirostat",
    "ignore_eos",
    "reasoning_budget",
    "max_tokens: 0",
)
_LARGEST_SEED = 9_999_999_999
_SMALLEST_TOP_P = 0.001
_MOST_STOPS = 4
_MOST_CHOICES = 128


class Model(Struct, frozen=True, kw_only=True):
    """What encoding needs to know of a model.

    Attributes:
        classic: it takes the classic fields.
        chats: it takes OpenAI's own on `/ai/run`: several choices, their log probabilities, `stop`.
        leaks: it may write a call that was forced as text.
    """

    name: str
    classic: bool = True
    streams: bool = True
    chats: bool = False
    leaks: bool = False


class Request(Struct, frozen=True, kw_only=True):
    """One upstream request, for one choice; of the chat-completion family for several.

    Attributes:
        path: below `/accounts/{id}/ai/`, ready for a URL.
        streams: ask for a stream.
        index: of the choice, or the first.
        count: how many choices it brings.
        forced: tools of which one has to be called, where the call may come as text.
        session: names the conversation, so that Cloudflare asks the instance that knows its beginning.
    """

    path: str
    document: dict[str, Any]
    streams: bool
    index: int
    max_tokens: int
    stops: tuple[str, ...]
    session: str | None = None
    count: int = 1
    forced: tuple[str, ...] = ()

    def body(self, *, stream: bool) -> bytes:
        """The JSON to send."""
        return msgspec.json.encode({**self.document, **self._stream_fields(stream)})

    def _stream_fields(self, stream: bool) -> dict[str, Any]:
        if stream and self.path.startswith("v1/"):
            return {"stream": True, "stream_options": {"include_usage": True}}
        return {"stream": stream}


def requests(call: Call, model: Model, preferred: Endpoint, default_max_tokens: int) -> list[Request]:
    """The requests that answer `call`, in the order of their choices' indices: mostly one for each.

    What is written of the answer already is part of what they ask, and of what `max_tokens` allows.

    Raises:
        Inexpressible: Workers AI cannot express the call; the message names the field.
    """
    call = _with_allowed_tools(call)
    endpoint = _endpoint(call, model, preferred)
    told = call.sampling.max_tokens
    max_tokens = tokens_left(default_max_tokens if told is None else told, call)
    # JSON mode cannot be streamed natively, nor by classic models.
    formed = call.response_format is not None and call.response_format.get("type") != "text"
    streams = model.streams and not (formed and (endpoint == "run" or model.classic))
    path = "v1/chat/completions" if endpoint == "v1" else f"run/{quote(model.name, safe='@/')}"
    shared = {"max_tokens": max_tokens, **_shared(call, model, endpoint)}
    count = call.n if _at_once(call, model, endpoint) else 1
    if count > 1:
        shared["n"] = count
    return [
        Request(
            path=path,
            document={**prompt, **shared, **_sampling(call.sampling, model, endpoint, index % call.n)},
            streams=streams,
            index=index,
            max_tokens=max_tokens,
            stops=call.sampling.stop,
            session=call.session,
            count=count,
            forced=forced(call) if model.leaks else (),
        )
        for index, prompt in enumerate(_prompts(with_written(call), model, endpoint))
        if index % count == 0
    ]


def _at_once(call: Call, model: Model, endpoint: Endpoint) -> bool:
    """Whether one request may bring all choices."""
    return model.chats and endpoint == "run" and call.operation is Operation.CHAT and call.n <= _MOST_CHOICES


def _with_allowed_tools(call: Call) -> Call:
    """`call` with those tools alone that its `tool_choice` allows; no model there knows `allowed_tools`."""
    match call.tool_choice:
        case {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(allowed)}}:
            names = {_tool_name(tool) for tool in allowed}
            kept = tuple(tool for tool in call.tools if _tool_name(tool) in names)
            return replace(call, tools=kept, tool_choice=mode)
    return call


def _tool_name(tool: dict[str, Any]) -> str:
    return str(tool["function"]["name"])


def _prompts(call: Call, model: Model, endpoint: Endpoint) -> list[dict[str, Any]]:
    """The prompt of each choice."""
    if call.operation is Operation.CHAT:
        return [{"messages": encoded(call.messages, classic=endpoint == "run" and not model.chats)}] * call.n
    if not all(isinstance(prompt, str) for prompt in call.prompts):
        raise Inexpressible("Workers AI takes text only: `prompt` holds token ids")
    return [{"prompt": prompt, "raw": True} for prompt in call.prompts for _ in range(call.n)]


def _endpoint(call: Call, model: Model, preferred: Endpoint) -> Endpoint:
    """Where the call can be expressed: where it is configured, if possible."""
    native_only = _native_only(call, model)
    v1_only = _v1_only(call, model)
    if native_only and v1_only:
        raise Inexpressible(f"Workers AI has no endpoint that takes `{native_only}` and `{v1_only}` together")
    if call.operation is not Operation.CHAT and v1_only:
        raise Inexpressible(f"Workers AI takes no `{v1_only}` for completions")
    scores = () if model.chats and call.operation is Operation.CHAT else (_LOGPROBS,)
    unsaid.check(call, (*_UNKNOWN, *scores), "Workers AI")
    if native_only:
        if not model.classic and native_only != _LOGPROBS:
            raise Inexpressible(f"this Workers AI model takes no `{native_only}`")
        return "run"
    return "v1" if v1_only else preferred if call.operation is Operation.CHAT else "run"


def _native_only(call: Call, model: Model) -> str | None:
    """The field, if there is one, that only `/ai/run` knows: of classic models, or of the chat family."""
    sampling = call.sampling
    if sampling.top_k is not None and sampling.top_k > 0:
        return "top_k"
    if sampling.repeat_penalty not in (None, 1.0):
        return "repeat_penalty"
    if call.adapters:
        return "lora"
    return _LOGPROBS if call.top_logprobs is not None and model.chats else None


def _v1_only(call: Call, model: Model) -> str | None:
    """The field, if there is one, that only OpenAI's form has."""
    if call.sampling.logit_bias and not model.chats:
        return "logit_bias"
    is_forced = call.tools and call.tool_choice not in (None, "auto", "none")
    return "tool_choice" if is_forced and model.classic else None


def _sampling(sampling: Sampling, model: Model, endpoint: Endpoint, choice: int) -> dict[str, Any]:
    """Sampling parameters, by the endpoint's names and within its limits.

    Choices of one prompt are asked for one by one, so each gets a seed of its own.
    """
    native = endpoint == "run"
    fields: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": _top_p(sampling.top_p, native=native),
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "seed": None if sampling.seed is None else _seed(sampling.seed + choice, native=native),
    }
    if native and model.classic:
        fields["top_k"] = sampling.top_k or None
        fields["repetition_penalty"] = sampling.repeat_penalty
    if not native or model.chats:
        fields["logit_bias"] = sampling.logit_bias or None
        fields["stop"] = list(sampling.stop) if 0 < len(sampling.stop) <= _MOST_STOPS else None
    return {name: value for name, value in fields.items() if value is not None}


def _top_p(value: float | None, *, native: bool) -> float | None:
    """0 means the same as the smallest value that the native endpoint takes."""
    return max(value, _SMALLEST_TOP_P) if native and value is not None else value


def _seed(seed: int, *, native: bool) -> int:
    """The native endpoint takes 1 to 9,999,999,999; others are folded into that, each always alike."""
    return (seed - 1) % _LARGEST_SEED + 1 if native else seed


def _shared(call: Call, model: Model, endpoint: Endpoint) -> dict[str, Any]:
    """What is the same for every choice."""
    fields: dict[str, Any] = {name: call.extra[name] for name in EXTRA_FIELDS & call.extra.keys()}
    if call.template_values:
        fields["chat_template_kwargs"] = call.template_values
    if call.reasoning_effort is not None:
        fields["reasoning_effort"] = call.reasoning_effort
    if call.parallel_tool_calls is not None:
        fields["parallel_tool_calls"] = call.parallel_tool_calls
    native = endpoint == "run"
    if call.top_logprobs is not None:
        fields |= {"logprobs": True, "top_logprobs": call.top_logprobs}
    if not native:
        fields["model"] = model.name
    if call.adapters:
        fields["lora"] = _fine_tune(call)
    if call.response_format is not None:
        fields |= _response_format(call.response_format, bare=native and model.classic)
    return fields | _tools(call, model, native=native)


def _fine_tune(call: Call) -> str:
    """The fine-tune that a call names, or its id.

    Raises:
        Inexpressible: several, or one with another strength than its own.
    """
    if len(call.adapters) > 1 or call.adapters[0].scale != 1.0:
        raise Inexpressible("Workers AI takes one fine-tune a call, at strength 1", param="lora")
    return call.adapters[0].name


def _tools(call: Call, model: Model, *, native: bool) -> dict[str, Any]:
    """The tools and which of them to call; classic models know no choice natively."""
    chooses = not (native and model.classic)
    if not call.tools or (call.tool_choice == "none" and not chooses):
        return {}
    tools = [described(tool) for tool in call.tools] if model.classic else list(call.tools)
    told = call.tool_choice is not None and chooses
    return {"tools": tools, **({"tool_choice": call.tool_choice} if told else {})}


def _response_format(asked: dict[str, Any], *, bare: bool) -> dict[str, Any]:
    """The answer's form; classic models take the schema itself, without OpenAI's wrapper."""
    if asked.get("type") == "text":
        return {}
    wrapper = asked.get("json_schema")
    if bare and isinstance(wrapper, dict) and "schema" in wrapper:
        return {"response_format": {"type": "json_schema", "json_schema": wrapper["schema"]}}
    return {"response_format": asked}
