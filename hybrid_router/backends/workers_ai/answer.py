"""One choice's answer: payloads in, events out, for every shape Workers AI answers in.

Classic models stream `{"response"}` chunks and name no finish reason; the others stream OpenAI's
chunks.  Either may end with a `{"response": "", "usage"}` line of Workers AI's own.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import UNSET

from hybrid_router.backends.chunks import Choice, plain, reason
from hybrid_router.backends.errand import Unreadable
from hybrid_router.backends.tally import Tally
from hybrid_router.backends.workers_ai import wire
from hybrid_router.backends.workers_ai.leaks import Leak
from hybrid_router.backends.writing import Writing
from hybrid_router.core.event import Batch, FinishReason, Usage

_DONE = b"[DONE]"
# `Unreadable`: the payload is no document; None: it says that the stream is over.
Parsed: TypeAlias = wire.Document | Unreadable | None


class Answer:
    """Reads one choice.

    Args:
        written: what is out of it already: a stop string may begin in it.
        begun: what the model was given as the beginning of its turn, and may repeat first.
        forced: tools of which the model has to call one, and may write the call as text.
        place: of the choice among those that one reply brings; None: the reply brings one.

    Attributes:
        done: nothing more is to be read.
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
        watch = Leak(forced) if forced else None
        self._writing = Writing(index, stops=stops, written=written, begun=begun, watch=watch)
        self._place = place
        self._max_tokens = max_tokens
        self._tally = Tally()
        self._chunked = False  # OpenAI's chunks were seen
        self._classic = False  # a `response` was seen
        self.done = False
        self.broken: Unreadable | None = None

    @property
    def finished(self) -> bool:
        """Whether its `Finish` was given; later text is dropped."""
        return self._writing.finished

    @property
    def cut(self) -> bool:
        """Whether a stop string ended it here, while upstream goes on."""
        return self._writing.cut

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
            elif isinstance(document, Unreadable):
                self.fail(document)
            else:
                self._document(document, payload, batch)
        except Unreadable as broken:
            self.fail(broken)

    def take_whole(self, document: Parsed, body: bytes, batch: Batch) -> None:
        """Add the events of an answer that came in one piece."""
        self.take(document, body, batch)
        if not self.done:
            self.take(None, _DONE, batch)
        self._writing.cut = False  # what a stop string cut off here was counted and has ended

    def end(self) -> None:
        """The connection has ended: the answer is whole only if a finish reason was seen."""
        if not self.done:
            self.fail(Unreadable("ended its answer without a finish reason"))

    def fail(self, broken: Unreadable) -> None:
        """Nothing more can be read.  After the finish that is nobody's loss; the first reason counts."""
        self.done = True
        if not self.finished and self.broken is None:
            self.broken = broken

    def _document(self, document: wire.Document, payload: bytes, batch: Batch) -> None:
        if document.error or document.errors:
            raise Unreadable("reported an error", reported=payload)
        choices = document.choices
        if document.usage is not None:
            self._tally.take(document.usage, alone=not choices)
        if choices is not None:
            self._chunked = True
            for choice in self._mine(choices):
                self._writing.take(choice, batch)
        elif document.response is not UNSET or document.tool_calls:
            self._response(document, batch)
        self.done = self.done or self._writing.cut

    def _mine(self, choices: list[Choice]) -> list[Choice]:
        """Those that are this choice's: the first, whatever its index, where there is but one."""
        if self._place is None:
            return choices[:1]
        return [choice for choice in choices if (choice.index or 0) == self._place]

    def _response(self, document: wire.Document, batch: Batch) -> None:
        self._classic = True
        self._writing.text(plain(document.response), batch)
        self._writing.calls(document.tool_calls or (), batch)
        if document.finish_reason:
            self._writing.finish(reason(document.finish_reason), batch)

    def _done(self, batch: Batch) -> None:
        """`[DONE]`, or the end of a whole answer."""
        if not self.finished:
            if self._chunked or not self._classic:
                raise Unreadable("ended its answer without a finish reason")
            self._writing.finish(self._classic_reason(), batch)
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
    except Unreadable as no:
        return no


def parsed_whole(body: bytes) -> Parsed:
    """What an answer that came in one piece says."""
    try:
        return wire.whole(body)
    except Unreadable as no:
        return no
