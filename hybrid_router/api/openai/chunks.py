"""Streams: events → `data:` documents.

What stays the same in a call's documents is encoded once; a text costs one `json.encode` and a join.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hybrid_router.api.openai import reply, scores, timings
from hybrid_router.core import ids
from hybrid_router.core.call import Call
from hybrid_router.core.event import (
    Batch,
    Event,
    Finish,
    PromptScores,
    Reasoning,
    Text,
    ToolFragment,
    Usage,
)

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
        if batch and isinstance(batch[-1], Usage):
            self._usage = batch[-1]  # before the finish in front of it, which may carry its times
        for event in batch:
            if isinstance(event, Usage):
                self._usage = event
                continue
            if not self._started[event.index]:
                self._started[event.index] = True
                self._first(event.index, event, out)
            if isinstance(event, Finish):
                self._finished_count += 1
            self._event(event, out)

    def end(self) -> bytes:
        """The usage chunk, if it is wanted and known, and `[DONE]`."""
        if not self._include_usage or self._usage is None:
            return _DONE
        usage = _encode(reply.usage_fields(self._usage))
        return self._head + b'],"usage":' + usage + self._times() + b"}\n\n" + _DONE

    def _times(self) -> bytes:
        """`timings`, as the last field of a document; nothing where nobody measured."""
        told = None if self._usage is None else timings.fields(self._usage)
        return b"" if told is None else b',"timings":' + _encode(told)

    def _last(self) -> bytes:
        """What closes the document of a finish.  With no usage chunk to come, the last one has the times.

        None comes to a client that has not asked for it: some take the first choice of every chunk.
        """
        if self._include_usage or not self.whole:
            return self._tail
        return b"]" + self._times() + b"}\n\n"

    def _first(self, index: int, event: Event, out: list[bytes]) -> None:
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

    def _first(self, index: int, event: Event, out: list[bytes]) -> None:
        out += (self._delta[index], b'"role":"assistant","content":""', self._open)

    def _event(self, event: Event, out: list[bytes]) -> None:
        if isinstance(event, Text):
            out += (self._text[event.index], _encode(event.text), self._closed(event))
        elif isinstance(event, Finish):
            finish = b'},"logprobs":null,"finish_reason":"%s"}' % event.reason.encode()
            out += (self._delta[event.index], finish, self._last())
        elif isinstance(event, Reasoning):
            out += (self._delta[event.index], b'"reasoning_content":', _encode(event.text), self._open)
        elif isinstance(event, ToolFragment):
            fragment = _encode([self._fragment(event)])
            out += (self._delta[event.index], b'"tool_calls":', fragment, self._open)

    def _closed(self, event: Text) -> bytes:
        """What closes the document of a text: its scores, if they are wanted."""
        if not event.scores or self._call.top_logprobs is None:
            return self._open
        told = _encode(scores.of_chat(event.scores))
        return b'},"logprobs":' + told + b',"finish_reason":null}' + self._tail

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
        self._columns = [scores.Column() for _ in range(call.choices_count)]
        self._echo = echo

    def _first(self, index: int, event: Event, out: list[bytes]) -> None:
        if self._echo and not isinstance(event, PromptScores):  # those come with it
            self._show(index, reply.echoed(self._call, index), out)

    def _event(self, event: Event, out: list[bytes]) -> None:
        if isinstance(event, Text):
            out += (self._text[event.index], _encode(event.text), self._closed(event))
        elif isinstance(event, PromptScores):
            if self._echo:
                self._echoed(event, out)
        elif isinstance(event, Finish):
            finish = b'"","logprobs":null,"finish_reason":"%s"}' % event.reason.encode()
            out += (self._text[event.index], finish, self._last())

    def _echoed(self, event: PromptScores, out: list[bytes]) -> None:
        """The prompt with its scores."""
        text = reply.echoed(self._call, event.index, event.scores)
        told = self._columns[event.index].of_prompt(event.scores, text)
        out += (self._text[event.index], _encode(text), self._with(told))

    def _show(self, index: int, text: str, out: list[bytes]) -> None:
        """The prompt alone."""
        self._columns[index].begin_at(len(text))
        out += (self._text[index], _encode(text), self._open)

    def _closed(self, event: Text) -> bytes:
        """What closes the document of a text: its scores, if they are wanted."""
        if not event.scores or self._call.top_logprobs is None:
            return self._open
        return self._with(self._columns[event.index].of(event.scores))

    def _with(self, told: dict[str, Any]) -> bytes:
        return b',"logprobs":' + _encode(told) + b',"finish_reason":null}' + self._tail
