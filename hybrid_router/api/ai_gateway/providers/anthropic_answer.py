"""Anthropic's Messages: the answer, whole or as named events."""

from __future__ import annotations

from typing import Any

import msgspec

from hybrid_router.api.openai import reply
from hybrid_router.core import ids
from hybrid_router.core.call import Call
from hybrid_router.core.errors import (
    BackendBusy,
    BackendTimeout,
    BodyTooLarge,
    CallRefused,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    QuotaExhausted,
    RouterError,
)
from hybrid_router.core.event import Batch, Event, Finish, Reasoning, Text, ToolFragment, Usage

_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
# From the special to the general: the first that fits counts.
_KINDS: tuple[tuple[type[RouterError], str], ...] = (
    (NotAuthenticated, "authentication_error"),
    (NotPermitted, "permission_error"),
    (NotFound, "not_found_error"),
    (BodyTooLarge, "request_too_large"),
    (CallRefused, "invalid_request_error"),
    (QuotaExhausted, "billing_error"),
    (BackendBusy, "rate_limit_error"),
    (BackendTimeout, "timeout_error"),
)


def failure(error: RouterError) -> bytes:
    """An error's document."""
    kind = next((kind for known, kind in _KINDS if isinstance(error, known)), "api_error")
    return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": error.message}})


def in_band(error: RouterError) -> bytes:
    """An error in a stream."""
    return b"event: error\ndata: " + failure(error) + b"\n\n"


def document(call: Call, events: Batch) -> bytes:
    """The whole message.  Raises StreamBroken: it is not whole."""
    (choice, *_), usage = reply.fold(call, events)
    content: list[dict[str, Any]] = []
    if choice.reasoning:
        content.append({"type": "thinking", "thinking": "".join(choice.reasoning), "signature": ""})
    if choice.text:
        content.append({"type": "text", "text": "".join(choice.text)})
    content += [_tool_use(choice.tools[position]) for position in sorted(choice.tools)]
    told = _message(call, content, usage)
    told["stop_reason"] = _REASONS[choice.reason or "stop"]
    return msgspec.json.encode(told)


def _message(call: Call, content: list[dict[str, Any]], usage: Usage | None) -> dict[str, Any]:
    return {
        "id": ids.sibling(call.id, "msg_"),
        "type": "message",
        "role": "assistant",
        "model": call.alias,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage(usage),
    }


def _usage(usage: Usage | None) -> dict[str, int]:
    """Tokens that were read from a cache are told apart."""
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 0}
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }


def _tool_use(fragments: list[ToolFragment]) -> dict[str, Any]:
    arguments = "".join(fragment.arguments for fragment in fragments)
    try:
        given = msgspec.json.decode(arguments or "{}", type=dict[str, Any])
    except msgspec.DecodeError:
        given = {"arguments": arguments}  # what a model wrote may be no object
    return {
        "type": "tool_use",
        "id": next((f.id for f in fragments if f.id), None) or ids.new("toolu_"),
        "name": next((f.name for f in fragments if f.name), ""),
        "input": given,
    }


class MessageChunks:
    """A stream of named events.  See `api.calls.Chunks`."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._begun = False
        self._open: tuple[str, int] | None = None  # the kind of the block that is being written, its call
        self._place = -1
        self._reason: str | None = None
        self._usage: Usage | None = None

    @property
    def whole(self) -> bool:
        """Whether it has its reason to stop."""
        return self._reason is not None

    def encode(self, batch: Batch) -> bytes:
        """One batch's events."""
        out = [] if self._begun else [self._start()]
        for event in batch:
            self._event(event, out)
        return b"".join(out)

    def end(self) -> bytes:
        """Why it stopped, what was counted, and the end."""
        out = self._closed()
        delta = {"stop_reason": _REASONS[self._reason or "stop"], "stop_sequence": None}
        out.append(_sse("message_delta", delta=delta, usage=_usage(self._usage)))
        out.append(_sse("message_stop"))
        return b"".join(out)

    def _start(self) -> bytes:
        self._begun = True
        return _sse("message_start", message=_message(self._call, [], None))

    def _event(self, event: Event, out: list[bytes]) -> None:
        match event:
            case Usage():
                self._usage = event
            case Finish():
                self._reason = event.reason
            case Text(text=text) if text:
                self._in(out, ("text", 0), {"type": "text", "text": ""})
                self._delta(out, {"type": "text_delta", "text": text})
            case Reasoning(text=text):
                self._in(out, ("thinking", 0), {"type": "thinking", "thinking": "", "signature": ""})
                self._delta(out, {"type": "thinking_delta", "thinking": text})
            case ToolFragment():
                self._tool(event, out)

    def _tool(self, event: ToolFragment, out: list[bytes]) -> None:
        begun = {
            "type": "tool_use",
            "id": event.id or ids.new("toolu_"),
            "name": event.name or "",
            "input": {},
        }
        self._in(out, ("tool_use", event.position), begun)
        if event.arguments:
            self._delta(out, {"type": "input_json_delta", "partial_json": event.arguments})

    def _in(self, out: list[bytes], block: tuple[str, int], begun: dict[str, Any]) -> None:
        """Be in this block: end another, begin it."""
        if self._open != block:
            out += self._closed()
            self._open, self._place = block, self._place + 1
            out.append(_sse("content_block_start", index=self._place, content_block=begun))

    def _closed(self) -> list[bytes]:
        if self._open is None:
            return []
        self._open = None
        return [_sse("content_block_stop", index=self._place)]

    def _delta(self, out: list[bytes], delta: dict[str, Any]) -> None:
        out.append(_sse("content_block_delta", index=self._place, delta=delta))


def _sse(kind: str, **told: Any) -> bytes:
    return f"event: {kind}\n".encode() + b"data: " + msgspec.json.encode({"type": kind, **told}) + b"\n\n"
