"""One choice's answer: payloads in, events out, for every shape Workers AI answers in.

Classic models stream `{"response"}` chunks and name no finish reason; the others stream OpenAI's
chunks.  Either may end with a `{"response": "", "usage"}` line of Workers AI's own.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec
from msgspec import UNSET

from hybrid_router.backends.chunks import REASONS, Choice, ToolPiece
from hybrid_router.backends.errand import Unreadable
from hybrid_router.backends.prefill import Echo
from hybrid_router.backends.scores import scores as scores_of
from hybrid_router.backends.tally import Tally
from hybrid_router.backends.tool_calls import ToolCalls
from hybrid_router.backends.workers_ai import wire
from hybrid_router.backends.workers_ai.leaks import Leak
from hybrid_router.core.event import Batch, Finish, FinishReason, Reasoning, Text, TokenScore, Usage
from hybrid_router.core.stops import StopFilter

_DONE = b"[DONE]"


class Broken(Exception):
    """The answer cannot go on.

    Attributes:
        why: what upstream did, for the client.
        reported: upstream's own words, if it named an error in band.
        detail: for the log.
    """

    def __init__(self, why: str, *, reported: bytes = b"", detail: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.reported = reported
        self.detail = detail


# `Broken`: the payload is no document; None: it says that the stream is over.
Parsed: TypeAlias = wire.Document | Broken | None


class Answer:
    """Reads one choice.

    Args:
        written: what is out of it already: a stop string may begin in it.
        begun: what the model was given as the beginning of its turn, and may repeat first.
        forced: tools of which the model has to call one, and may write the call as text.
        place: of the choice among those that one reply brings; None: the reply brings one.

    Attributes:
        finished: its `Finish` was given; later text is dropped.
        done: nothing more is to be read.
        cut: a stop string ended it here, while upstream goes on.
        broken: why it cannot go on, once that is so.
    """

    def __init__(
        self,
        index: int,
        *,
        max_tokens: int,
        stops: tuple[str, ...] = (),
        written: str = "",
        begun: str = "",
        forced: tuple[str, ...] = (),
        place: int | None = None,
    ) -> None:
        self._index = index
        self._place = place
        self._leak = Leak(forced) if forced else None
        self._max_tokens = max_tokens
        self._echo = Echo(begun) if begun else None
        self._stop = StopFilter(stops, written) if stops else None
        self._tools = ToolCalls(index)
        self._tally = Tally()
        self._chunked = False  # OpenAI's chunks were seen
        self._classic = False  # a `response` was seen
        self.finished = False
        self.done = False
        self.cut = False
        self.broken: Broken | None = None

    @property
    def usage(self) -> Usage | None:
        """What upstream counted, as far as it told; unknown if a stop string cut the answer short."""
        return None if self.cut else self._tally.usage

    def read(self, payloads: list[bytes]) -> Batch:
        """The events of these payloads, up to the one that breaks the answer, if one does."""
        batch: Batch = []
        for payload in payloads:
            if self.done:
                break
            if payload:
                self.take(parsed(payload), payload, batch)
        return batch

    def read_whole(self, body: bytes) -> Batch:
        """The events of an answer that came in one piece."""
        batch: Batch = []
        self.take_whole(parsed_whole(body), body, batch)
        return batch

    def take(self, document: Parsed, payload: bytes, batch: Batch) -> None:
        """Add the events of one payload."""
        try:
            if document is None:
                self._done(batch)
            elif isinstance(document, Broken):
                self.fail(document)
            else:
                self._document(document, payload, batch)
        except Broken as broken:
            self.fail(broken)

    def take_whole(self, document: Parsed, body: bytes, batch: Batch) -> None:
        """Add the events of an answer that came in one piece."""
        self.take(document, body, batch)
        if not self.done:
            self.take(None, _DONE, batch)
        self.cut = False  # what a stop string cut off here was counted and has ended

    def end(self) -> None:
        """The connection has ended: the answer is whole only if a finish reason was seen."""
        if not self.done:
            self.fail(Broken("ended its answer without a finish reason"))

    def fail(self, broken: Broken) -> None:
        """Nothing more can be read.  After the finish that is nobody's loss; the first reason counts."""
        self.done = True
        if not self.finished and self.broken is None:
            self.broken = broken

    def _document(self, document: wire.Document, payload: bytes, batch: Batch) -> None:
        if document.error or document.errors:
            raise Broken("reported an error", reported=payload)
        choices = document.choices
        if document.usage is not None:
            self._tally.take(document.usage, alone=not choices)
        if choices is not None:
            self._chunked = True
            for choice in self._mine(choices):
                self._choice(choice, batch)
        elif document.response is not UNSET or document.tool_calls:
            self._response(document, batch)

    def _mine(self, choices: list[Choice]) -> list[Choice]:
        """Those that are this choice's: the first, whatever its index, where there is but one."""
        if self._place is None:
            return choices[:1]
        return [choice for choice in choices if (choice.index or 0) == self._place]

    def _choice(self, choice: Choice, batch: Batch) -> None:
        delta = choice.delta or choice.message
        scores = _scores(choice)
        if delta is not None:
            if reasoning := delta.reasoning_content or delta.reasoning:
                self._reasoning(reasoning, batch)
            if delta.content is not None or scores:
                self._text(_text(delta.content), batch, scores)
            if delta.tool_calls:
                self._calls(delta.tool_calls, batch)
        if choice.text:
            self._text(choice.text, batch, scores)
        if choice.finish_reason:
            self._finish(_reason(choice.finish_reason), batch)

    def _response(self, document: wire.Document, batch: Batch) -> None:
        self._classic = True
        self._text(_text(document.response), batch)
        self._calls(document.tool_calls, batch)
        if document.finish_reason:
            self._finish(_reason(document.finish_reason), batch)

    def _text(self, text: str, batch: Batch, scores: tuple[TokenScore, ...] = ()) -> None:
        if self.finished:
            return
        if self._echo is not None:
            text = self._echo.feed(text)
        if self._leak is not None:
            text = self._leak.feed(text)
        self._told(text, batch, scores)

    def _told(self, text: str, batch: Batch, scores: tuple[TokenScore, ...] = ()) -> None:
        """Give text that is new, up to a stop string."""
        met = False
        if self._stop is not None:
            text, met = self._stop.feed(text)
        if text or scores:
            batch.append(Text(text, self._index, scores))
        if met:
            self.cut = self.done = True
            self._finish("stop", batch)

    def _reasoning(self, text: str, batch: Batch) -> None:
        if not self.finished:
            batch.append(Reasoning(text, self._index))

    def _calls(self, pieces: list[ToolPiece] | None, batch: Batch) -> None:
        if not pieces or self.finished:
            return
        if self._release(batch):
            batch.extend(fragment for piece in pieces if (fragment := self._tools.take(piece)) is not None)

    def _release(self, batch: Batch) -> bool:
        """Give the text that waited, for the rest of a repetition or of a stop string.

        Returns whether the answer goes on: what waited may hold a stop string.
        """
        for holder in (self._echo, self._leak):
            if holder is not None and (held := holder.flush()):
                self._told(held, batch)
        if self._stop is not None and (held := self._stop.flush()):
            batch.append(Text(held, self._index))
        return not self.finished

    def _finish(self, reason: FinishReason, batch: Batch) -> None:
        """Finish once; the first reason counts."""
        if self.finished:
            return
        if self._leak is not None and (leaked := self._leak.call()) is not None:
            self._calls([leaked], batch)
        if self._tools.nameless:
            raise Broken("called a tool without naming it")
        if not self._release(batch):
            return
        self.finished = True
        called = reason == "stop" and self._tools.any
        batch.append(Finish("tool_calls" if called else reason, self._index))

    def _done(self, batch: Batch) -> None:
        """`[DONE]`, or the end of a whole answer."""
        if not self.finished:
            if self._chunked or not self._classic:
                raise Broken("ended its answer without a finish reason")
            self._finish(self._classic_reason(), batch)
        self.done = True

    def _classic_reason(self) -> FinishReason:
        """Classic models name none: `[DONE]` means whole, and the budget tells whether it was used up."""
        usage = self._tally.usage
        return "length" if usage is not None and usage.completion_tokens >= self._max_tokens else "stop"


def parsed(payload: bytes) -> Parsed:
    """What a payload says."""
    if payload == _DONE:
        return None
    try:
        return wire.document(payload)
    except wire.Malformed as error:
        return _malformed(error)


def parsed_whole(body: bytes) -> Parsed:
    """What an answer that came in one piece says."""
    try:
        return wire.whole(body)
    except wire.Malformed as error:
        return _malformed(error)


def _malformed(error: wire.Malformed) -> Broken:
    return Broken("sent what is not its format", detail=str(error))


def _text(value: object) -> str:
    """Text as it is; numbers and JSON mode's objects as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None or value is UNSET else msgspec.json.encode(value).decode()


def _scores(choice: Choice) -> tuple[TokenScore, ...]:
    try:
        return scores_of(choice)
    except Unreadable as no:
        raise Broken(no.why, detail=no.detail) from None


def _reason(told: str) -> FinishReason:
    """OpenAI's word for a reason.

    Raises:
        Broken: the model failed, or the word is none we know: then nobody can say the answer is whole.
    """
    reason = REASONS.get(told)
    if reason is None:
        raise Broken(f"ended its answer with {told[:40]!r}")
    return reason
