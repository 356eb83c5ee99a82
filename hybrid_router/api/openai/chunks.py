"""Streams: events → `data:` documents.

What stays the same in a call's documents is encoded once; a text costs one `json.encode` and a join.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hybrid_router.api.openai import reply
from hybrid_router.core import ids
from hybrid_router.core.call import Call
from hybrid_router.core.event import Batch, Event, Finish, Reasoning, Text, ToolFragment, Usage

_encode = msgspec.json.encode
_DONE = b"data: [DONE]\n\n"


class _Chunks:
    """What both kinds of chunk share: the envelope, usage and the end."""

    kind = ""

    def __init__(self, call: Call, created_s: int, *, include_usage: bool) -> None:
        envelope = _encode({"id": call.id, "object": self.kind, "created": created_s, "model": call.alias})
        self._call = call
        self._head = b"data: " + envelope[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"
        self._include_usage = include_usage
        self._usage: Usage | None = None
        self._started = [False] * call.choices_count
        self._finished_count = 0

    @property
    def whole(self) -> bool:
        """Whether every choice has its finish reason."""
        return self._finished_count >= len(self._started)

    def encode(self, batch: Batch) -> bytes:
        """One batch's documents, joined: they are sent by one write.

        Raises:
            StreamBroken: an event belongs to no choice of the call.
        """
        out: list[bytes] = []
        try:
            self._all(batch, out)
        except IndexError:
            raise reply.unasked() from None
        return b"".join(out)

    def _all(self, batch: Batch, out: list[bytes]) -> None:
        """Every event of a batch, each choice's first one after what comes before it."""
        for event in batch:
            if isinstance(event, Usage):
                self._usage = event
                continue
            if not self._started[event.index]:
                self._started[event.index] = True
                self._first(event.index, out)
            if isinstance(event, Finish):
                self._finished_count += 1
            self._event(event, out)

    def end(self) -> bytes:
        """The usage chunk, if it is wanted and known, and `[DONE]`."""
        if not self._include_usage or self._usage is None:
            return _DONE
        usage = _encode(reply.usage_fields(self._usage))
        return self._head + b'],"usage":' + usage + b"}\n\n" + _DONE

    def _first(self, index: int, out: list[bytes]) -> None:
        """What comes before a choice's first event."""

    def _event(self, event: Event, out: list[bytes]) -> None:
        """One event."""


class ChatChunks(_Chunks):
    """`chat.completion.chunk` documents."""

    kind = "chat.completion.chunk"

    def __init__(self, call: Call, created_s: int, *, include_usage: bool) -> None:
        super().__init__(call, created_s, include_usage=include_usage)
        self._open = b'},"logprobs":null,"finish_reason":null}' + self._tail
        indexes = range(call.choices_count)
        self._delta = [self._head + b'{"index":%d,"delta":{' % index for index in indexes]
        self._text = [head + b'"content":' for head in self._delta]
        self._named: set[tuple[int, int]] = set()

    def _first(self, index: int, out: list[bytes]) -> None:
        out += (self._delta[index], b'"role":"assistant","content":""', self._open)

    def _event(self, event: Event, out: list[bytes]) -> None:
        if isinstance(event, Text):
            out += (self._text[event.index], _encode(event.text), self._open)
        elif isinstance(event, Finish):
            finish = b'},"logprobs":null,"finish_reason":"%s"}' % event.reason.encode()
            out += (self._delta[event.index], finish, self._tail)
        elif isinstance(event, Reasoning):
            out += (self._delta[event.index], b'"reasoning_content":', _encode(event.text), self._open)
        elif isinstance(event, ToolFragment):
            fragment = _encode([self._fragment(event)])
            out += (self._delta[event.index], b'"tool_calls":', fragment, self._open)

    def _fragment(self, event: ToolFragment) -> dict[str, Any]:
        """A tool call's piece.  Id and name come once, first: some clients take a name for a new call."""
        place = (event.index, event.position)
        if place in self._named:
            return {"index": event.position, "function": {"arguments": event.arguments}}
        self._named.add(place)
        return {
            "index": event.position,
            "id": event.id or ids.new("call_"),
            "type": "function",
            "function": {"name": event.name or "", "arguments": event.arguments},
        }


class CompletionChunks(_Chunks):
    """`text_completion` documents.  `finish_reason` is null until the last, as OpenAI's service does."""

    kind = "text_completion"

    def __init__(self, call: Call, created_s: int, *, include_usage: bool, echo: bool) -> None:
        super().__init__(call, created_s, include_usage=include_usage)
        self._open = b',"logprobs":null,"finish_reason":null}' + self._tail
        self._text = [self._head + b'{"index":%d,"text":' % index for index in range(call.choices_count)]
        self._echo = echo

    def _first(self, index: int, out: list[bytes]) -> None:
        if self._echo:
            out += (self._text[index], _encode(reply.echoed(self._call, index)), self._open)

    def _event(self, event: Event, out: list[bytes]) -> None:
        if isinstance(event, Text):
            out += (self._text[event.index], _encode(event.text), self._open)
        elif isinstance(event, Finish):
            finish = b'"","logprobs":null,"finish_reason":"%s"}' % event.reason.encode()
            out += (self._text[event.index], finish, self._tail)
