"""One choice's answer: Anthropic's events in, ours out."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from hybrid_router.backends.errand import Unreadable, malformed
from hybrid_router.core import ids
from hybrid_router.core.event import Batch, Finish, FinishReason, Reasoning, Text, ToolFragment, Usage
from hybrid_router.core.stops import StopFilter

T = TypeVar("T")
_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class _Counts(Struct):
    """`input_tokens` leaves out what a cache gave and what was put into one."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Block(Struct):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None


class _Delta(Struct):
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Message(Struct):
    content: list[_Block] = []
    stop_reason: str | None = None
    usage: _Counts | None = None


class _Event(Struct):
    """Any event of a stream; what kind of one is in its data, too."""

    type: str
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Counts | None = None


class _Whole(_Message):
    type: str = ""


class Answer:
    """Reads one choice.

    Args:
        written: what is out of it already: a stop string may begin in it.
        lead: white space that is out already and that the model may write once more.

    Attributes:
        done: nothing more is to be read.
        broken: why it cannot go on, once that is so; what came before it was given.
    """

    def __init__(self, index: int, stops: tuple[str, ...] = (), written: str = "", lead: str = "") -> None:
        self._index = index
        self._stop = StopFilter(stops, written)
        self._lead = lead
        self._counts = _Counts()
        self._calls: dict[int, int] = {}  # block → the tool call's place
        self._cut = False
        self.done = False
        self.broken: Unreadable | None = None

    @property
    def usage(self) -> Usage | None:
        """What was counted; unknown if a stop string cut the answer short here."""
        counts = self._counts
        if self._cut or counts.output_tokens is None:
            return None
        cached = counts.cache_read_input_tokens or 0
        fresh = (counts.input_tokens or 0) + (counts.cache_creation_input_tokens or 0)
        return Usage(fresh + cached, counts.output_tokens, cached)

    def read(self, payload: bytes) -> Batch:
        """The events of one event's data."""
        batch: Batch = []
        try:
            self._event(payload, batch)
        except Unreadable as broken:
            self.broken = broken
            self.done = True
        return batch

    def read_whole(self, body: bytes) -> Batch:
        """The events of an answer that came in one piece."""
        whole = _decoded(body, _Whole)
        if whole.type != "message":
            raise Unreadable("reported an error", reported=body)
        batch: Batch = []
        for place, block in enumerate(whole.content):
            self._begin(place, block, batch)
            if block.type == "tool_use" and not self.done:
                arguments = msgspec.json.encode(block.input or {}).decode()
                batch.append(ToolFragment(self._calls[place], arguments, index=self._index))
        self._count(whole.usage)
        self._finish(whole.stop_reason, batch)
        self._cut = False
        return batch

    def end(self) -> Batch:
        """The stream is over, and nobody said that the answer is."""
        raise Unreadable("ended its answer without a finish reason")

    def _event(self, payload: bytes, batch: Batch) -> None:
        match event := _decoded(payload, _Event):
            case _Event(type="error"):
                raise Unreadable("reported an error", reported=payload)
            case _Event(type="message_start", message=_Message(usage=counts)):
                self._count(counts)
            case _Event(type="content_block_start", content_block=_Block() as block):
                self._begin(event.index, block, batch)
            case _Event(type="content_block_delta", delta=_Delta() as delta):
                self._add(event.index, delta, batch)
            case _Event(type="message_delta", delta=_Delta(stop_reason=reason)):
                self._count(event.usage)
                if reason is not None:
                    self._finish(reason, batch)
            case _Event(type="message_stop"):
                raise Unreadable("ended its answer without a finish reason")

    def _begin(self, place: int, block: _Block, batch: Batch) -> None:
        """A block begins; those that are for its own tools, and later kinds, are passed over."""
        if block.type == "tool_use":
            self._release(batch)
            if not block.name:
                raise Unreadable("called a tool without naming it")
            self._calls[place] = len(self._calls)
            given = block.id or ids.new("call_")
            batch.append(ToolFragment(self._calls[place], id=given, name=block.name, index=self._index))
        elif block.type in {"text", "thinking"}:
            self._add(place, _Delta(text=block.text, thinking=block.thinking), batch)

    def _add(self, place: int, delta: _Delta, batch: Batch) -> None:
        if delta.thinking:
            batch.append(Reasoning(delta.thinking, self._index))
        if delta.text:
            self._text(self._without_lead(delta.text), batch)
        if delta.partial_json and place in self._calls:
            batch.append(ToolFragment(self._calls[place], delta.partial_json, index=self._index))

    def _without_lead(self, text: str) -> str:
        """Take off what the client has already.  It may come in several pieces."""
        while self._lead and text and text[0].isspace():
            self._lead = self._lead[1:] if text[0] == self._lead[0] else ""
            text = text[1:]
        if text:
            self._lead = ""
        return text

    def _text(self, text: str, batch: Batch) -> None:
        if self.done:
            return
        shown, met = self._stop.feed(text)
        if shown:
            batch.append(Text(shown, self._index))
        if met:
            self._cut = self.done = True
            batch.append(Finish("stop", self._index))

    def _release(self, batch: Batch) -> None:
        """Give the text that waited for the rest of a stop string."""
        if held := self._stop.flush():
            batch.append(Text(held, self._index))

    def _count(self, counts: _Counts | None) -> None:
        """Take what is counted anew: totals, not what was added."""
        for name in _Counts.__struct_fields__:
            if (count := getattr(counts, name, None)) is not None:
                setattr(self._counts, name, max(0, count))

    def _finish(self, told: str | None, batch: Batch) -> None:
        """The answer is whole: what follows is nobody's loss."""
        if self.done:
            return
        reason = _REASONS.get(told or "")
        if reason is None:
            raise Unreadable(f"ended its answer with {(told or 'nothing')[:40]!r}")
        self._release(batch)
        self.done = True
        batch.append(Finish(reason, self._index))


def _decoded(payload: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(payload, type=kind)
    except (ValueError, RecursionError) as error:
        raise malformed(error) from None
