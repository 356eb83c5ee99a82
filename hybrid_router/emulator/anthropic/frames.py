"""An answer in Anthropic's words: a stream of named events, or the message that they add up to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any, TypeAlias

import msgspec

from hybrid_router.api.workers_ai.refusal import Refusal
from hybrid_router.core.call import Call
from hybrid_router.core.event import Batch, Event, Finish, Reasoning, Text, ToolFragment, Usage
from hybrid_router.emulator import tokens
from hybrid_router.emulator.fault import Fault
from hybrid_router.emulator.stage import interrupted

Document: TypeAlias = dict[str, Any]
_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error(refused: Refusal) -> Document:
    """The document of an error."""
    kind = _KINDS.get(refused.status, "api_error")
    return {
        "type": "error",
        "error": {"type": kind, "message": refused.message},
        "request_id": "req_emulated",
    }


def error_frame(fault: Fault) -> bytes:
    """An error as an event."""
    return frame("error", error=error(interrupted(fault))["error"])


def frame(kind: str, **more: Any) -> bytes:
    """A named event; its data holds its name, too."""
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), msgspec.json.encode({"type": kind, **more}))


class Frames:
    """Writes one answer as a stream."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._block = ""  # the kind of the one that is open
        self._count = 0
        self._reason = "end_turn"
        self._usage: Usage | None = None

    async def written(self, batches: AsyncGenerator[Batch]) -> AsyncGenerator[bytes]:
        """Its events."""
        message = {**_message(self._call, []), "stop_reason": None, "stop_sequence": None}
        yield frame("message_start", message={**message, "usage": _counted(self._call, None)})
        yield frame("ping")
        async with aclosing(batches):
            async for batch in batches:
                for event in batch:
                    for written in self._event(event):
                        yield written
        for written in self._closed():
            yield written
        usage = {"output_tokens": 0 if self._usage is None else self._usage.completion_tokens}
        yield frame("message_delta", delta={"stop_reason": self._reason, "stop_sequence": None}, usage=usage)
        yield frame("message_stop")

    def _event(self, event: Event) -> Iterator[bytes]:
        match event:
            case Text(text=text) if text:
                yield from self._opened("text", {"type": "text", "text": ""})
                yield self._delta({"type": "text_delta", "text": text})
            case Reasoning(text=text):
                yield from self._opened("thinking", {"type": "thinking", "thinking": "", "signature": ""})
                yield self._delta({"type": "thinking_delta", "thinking": text})
            case ToolFragment(name=str(name), id=id_):
                yield from self._closed()
                yield from self._opened(
                    "tool_use", {"type": "tool_use", "id": id_, "name": name, "input": {}}
                )
                if event.arguments:
                    yield self._delta({"type": "input_json_delta", "partial_json": event.arguments})
            case ToolFragment(arguments=arguments):
                yield self._delta({"type": "input_json_delta", "partial_json": arguments})
            case Finish(reason=reason):
                self._reason = _REASONS[reason]
            case Usage():
                self._usage = event

    def _opened(self, kind: str, block: Document) -> Iterator[bytes]:
        if self._block == kind:
            return
        yield from self._closed()
        self._block = kind
        yield frame("content_block_start", index=self._count, content_block=block)

    def _closed(self) -> Iterator[bytes]:
        if not self._block:
            return
        if self._block == "thinking":
            yield self._delta({"type": "signature_delta", "signature": "emulated"})
        yield frame("content_block_stop", index=self._count)
        self._block = ""
        self._count += 1

    def _delta(self, delta: Document) -> bytes:
        return frame("content_block_delta", index=self._count, delta=delta)


def message(call: Call, events: Batch) -> Document:
    """A whole answer."""
    content: list[Document] = []
    reason, usage = "end_turn", None
    if thought := "".join(event.text for event in events if isinstance(event, Reasoning)):
        content.append({"type": "thinking", "thinking": thought, "signature": "emulated"})
    if said := "".join(event.text for event in events if isinstance(event, Text)):
        content.append({"type": "text", "text": said})
    arguments = ""
    for event in events:
        if isinstance(event, ToolFragment):
            if event.name is not None:
                content.append({"type": "tool_use", "id": event.id, "name": event.name, "input": {}})
                arguments = ""
            arguments += event.arguments
            content[-1]["input"] = _object(arguments)
        elif isinstance(event, Finish):
            reason = _REASONS[event.reason]
        elif isinstance(event, Usage):
            usage = event
    found = {**_message(call, content), "stop_reason": reason, "stop_sequence": None}
    return {**found, "usage": _counted(call, usage)}


def _object(arguments: str) -> Document:
    """As far as it has come; only a whole one can be read."""
    try:
        return msgspec.json.decode(arguments, type=Document)
    except msgspec.DecodeError:
        return {}


def _message(call: Call, content: list[Document]) -> Document:
    return {"id": call.id, "type": "message", "role": "assistant", "model": call.alias, "content": content}


def _counted(call: Call, usage: Usage | None) -> Document:
    prompt_tokens = tokens.prompt_tokens(call) if usage is None else usage.prompt_tokens
    return {
        "input_tokens": prompt_tokens,
        "output_tokens": 0 if usage is None else usage.completion_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "service_tier": "standard",
    }
