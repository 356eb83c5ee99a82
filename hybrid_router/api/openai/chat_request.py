"""POST /v1/chat/completions: wire → `Call`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias, Unpack

import msgspec
from msgspec import Meta, Struct

from hybrid_router.api.openai import form, malformed, parts, prefill, sender, template_values
from hybrid_router.api.openai.fields import CommonBody, TokenLimit, adapters, most_tokens, sampling
from hybrid_router.api.openai.sender import Sender
from hybrid_router.core.call import Adapter, Call, Feature, Message, Operation
from hybrid_router.core.errors import CallRefused, UnsupportedParameter

_RETIRED = {"functions": "tools", "function_call": "tool_choice"}
_CHOICES = frozenset({"none", "auto", "required"})
Budget: TypeAlias = Annotated[int, Meta(ge=-1, le=2**31 - 1)]


class ChatBody(CommonBody, frozen=True, kw_only=True):
    """The fields that a chat call is made of."""

    messages: Annotated[tuple[Message, ...], Meta(min_length=1)]
    max_completion_tokens: TokenLimit | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    reasoning_budget: Budget | None = None
    thinking_budget_tokens: Budget | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    modalities: list[str] | None = None
    functions: Any = None
    function_call: Any = None


class ChatRequest(Struct, frozen=True):
    """A call, and how its client wants to read the answer."""

    call: Call
    include_usage: bool


_DECODER = msgspec.json.Decoder(ChatBody)
_KNOWN = frozenset(ChatBody.__struct_fields__)


def decode(body: bytes, **asker: Unpack[Sender]) -> ChatRequest:
    """Read a chat request.

    Raises:
        CallRefused: for anything that is wrong with it.
    """
    chat, extra = malformed.read(_DECODER, _KNOWN, body)
    _refuse_retired(chat)
    tools, chosen = _tools(chat), adapters(chat.lora)
    wanted = form.wanted(chat, with_tools=bool(tools))
    top_logprobs, goes_on = _top_logprobs(chat), bool(chat.continue_final_message)
    features = parts.check(chat.messages) | form.feature(wanted) | _features(tools, top_logprobs, chosen)
    prefill.check(chat.messages, goes_on, chat.add_generation_prompt, formed=bool(tools or wanted))
    call = Call(
        operation=Operation.CHAT,
        alias=chat.model,
        messages=chat.messages,
        sampling=sampling(chat, _most_tokens(chat)),
        n=chat.n or 1,
        stream=bool(chat.stream),
        tools=tools,
        tool_choice=chat.tool_choice if tools else None,
        parallel_tool_calls=chat.parallel_tool_calls if tools else None,
        response_format=wanted,
        top_logprobs=top_logprobs,
        truncate=chat.truncate,
        goes_on=goes_on,
        reasoning_effort=chat.reasoning_effort,
        reasoning_tokens=_reasoning_tokens(chat),
        template_values=template_values.read(chat.chat_template_kwargs),
        adapters=chosen,
        features=features | {Feature.PREFILL} if goes_on else features,
        **sender.fields(asker, extra),
    )
    return ChatRequest(call, chat.include_usage)


def _refuse_retired(chat: ChatBody) -> None:
    """Name the fields that replaced old ones, and output we cannot make."""
    for name, successor in _RETIRED.items():
        if getattr(chat, name):
            raise UnsupportedParameter(f"{name} is not supported; use {successor}", param=name)
    if chat.modalities is not None and any(kind != "text" for kind in chat.modalities):
        raise UnsupportedParameter("modalities: only text is answered", param="modalities")


def _features(
    tools: tuple[dict[str, Any], ...], top_logprobs: int | None, chosen: tuple[Adapter, ...]
) -> frozenset[Feature]:
    """What these fields ask of a model."""
    asked = {
        Feature.TOOLS: bool(tools),
        Feature.LOGPROBS: top_logprobs is not None,
        Feature.ADAPTERS: bool(chosen),
    }
    return frozenset(feature for feature, is_asked in asked.items() if is_asked)


def _top_logprobs(chat: ChatBody) -> int | None:
    """How many others' log probabilities are asked for beside each token's own; None: not even those."""
    if chat.top_logprobs is not None and not chat.logprobs:
        raise CallRefused("top_logprobs needs logprobs: true", param="top_logprobs")
    return (chat.top_logprobs or 0) if chat.logprobs else None


def _most_tokens(chat: ChatBody) -> int | None:
    name = "max_tokens" if chat.max_completion_tokens is None else "max_completion_tokens"
    return most_tokens(chat, name, default=None, least=1)


def _reasoning_tokens(chat: ChatBody) -> int | None:
    """The reasoning's bound; -1, as llama-server writes it, is none."""
    budget = chat.thinking_budget_tokens if chat.reasoning_budget is None else chat.reasoning_budget
    return None if budget == -1 else budget


def _tools(chat: ChatBody) -> tuple[dict[str, Any], ...]:
    """The tools that may be called; none if the client forbids all."""
    if not chat.tools:
        if chat.tool_choice not in (None, "none", "auto"):
            raise CallRefused("tool_choice needs tools", param="tool_choice")
        return ()
    names = {_tool_name(tool, f"tools[{i}]") for i, tool in enumerate(chat.tools)}
    _check_choice(chat.tool_choice, names)
    return () if chat.tool_choice == "none" else tuple(chat.tools)


def _tool_name(tool: dict[str, Any], param: str) -> str:
    """The name of a function tool, the only type a model can be given here."""
    if tool.get("type", "function") != "function":
        raise UnsupportedParameter(f"{param}.type: only function is supported", param=f"{param}.type")
    function = tool.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name:
        raise CallRefused(f"{param}.function.name: expected a name", param=f"{param}.function.name")
    return name


def _check_choice(choice: str | dict[str, Any] | None, names: set[str]) -> None:
    """`tool_choice` is a word, names one of the tools, or lists those that are allowed."""
    if choice is None or (isinstance(choice, str) and choice in _CHOICES):
        return
    kind = choice.get("type") if isinstance(choice, dict) else None
    if isinstance(choice, dict) and kind == "function":
        _check_named(choice, names, "tool_choice")
    elif isinstance(choice, dict) and kind == "allowed_tools":
        _check_allowed(choice.get("allowed_tools"), names)
    else:
        raise UnsupportedParameter(
            "tool_choice: expected none, auto, required, a function's name or allowed_tools",
            param="tool_choice",
        )


def _check_named(choice: Any, names: set[str], param: str) -> None:
    function = choice.get("function") if isinstance(choice, dict) else None
    if not isinstance(function, dict) or function.get("name") not in list(names):
        raise CallRefused(f"{param}.function.name: no tool has this name", param=f"{param}.function.name")


def _check_allowed(allowed: Any, names: set[str]) -> None:
    """`allowed_tools` is some of the tools, and whether one of them must be called."""
    param = "tool_choice.allowed_tools"
    allowed = allowed if isinstance(allowed, dict) else {}
    if allowed.get("mode") not in ("auto", "required"):
        raise CallRefused(f"{param}.mode: expected auto or required", param=f"{param}.mode")
    tools = allowed.get("tools")
    if not isinstance(tools, list) or not tools:
        raise CallRefused(f"{param}.tools: expected some of the tools", param=f"{param}.tools")
    for i, tool in enumerate(tools):
        _check_named(tool, names, f"{param}.tools[{i}]")
