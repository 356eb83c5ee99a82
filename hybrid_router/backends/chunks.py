"""OpenAI's answers on the wire, as others send them: what a chunk of a stream or a whole answer is made of.

Unknown fields are skipped.  Parsed JSON has no cycles, so the garbage collector need not look at it
(`gc=False`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from hybrid_router.backends.errand import Unreadable
from hybrid_router.core.event import FinishReason

Scalar = str | int | float | bool | None
# What servers call the ends of answers.
REASONS: Mapping[str, FinishReason] = MappingProxyType({
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
})  # fmt: skip


class FunctionPiece(Struct, gc=False):
    """Part of a function call; `arguments` is text, or an object on classic models."""

    name: str | None = None
    arguments: str | dict[str, Any] | list[Any] | None = None


class ToolPiece(Struct, gc=False):
    """Part of a tool call, or a whole one: `{name, arguments}` on classic models."""

    index: int | None = None
    id: str | None = None
    function: FunctionPiece | None = None
    name: str | None = None
    arguments: str | dict[str, Any] | list[Any] | None = None


class Delta(Struct, gc=False):
    """What a chunk adds to a message, or a whole message.  Reasoning goes by two names."""

    content: Scalar = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolPiece] | None = None


class Choice(Struct, gc=False):
    """One choice; `text` on completions.  Their `logprobs` have a form each, so they stay unread here."""

    index: int | None = None
    delta: Delta | None = None
    message: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: msgspec.Raw | UnsetType = UNSET


class PromptDetails(Struct, gc=False):
    """How the prompt's tokens were counted."""

    cached_tokens: int | None = None


class Counts(Struct, gc=False):
    """Usage, of a chunk or of the whole answer."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    neurons: float | None = None


def reason(told: str) -> FinishReason:
    """What a server calls an answer's end.

    Raises:
        Unreadable: the model failed, or the word is none we know: then nobody can say the answer is whole.
    """
    known = REASONS.get(told)
    if known is None:
        raise Unreadable(f"ended its answer with {told[:40]!r}")
    return known


def plain(value: object) -> str:
    """Text as it is; numbers and objects, as of arguments or JSON mode, as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None or value is UNSET else msgspec.json.encode(value).decode()
