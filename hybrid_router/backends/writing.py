"""One choice while it is written: OpenAI's pieces in, events out, each once and in order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from hybrid_router.backends.chunks import Choice, ToolPiece, plain, reason
from hybrid_router.backends.errand import Unreadable
from hybrid_router.backends.prefill import Echo
from hybrid_router.backends.scores import scores as scores_of
from hybrid_router.backends.tool_calls import ToolCalls
from hybrid_router.core.event import Batch, Finish, FinishReason, Reasoning, Text, TokenScore
from hybrid_router.core.stops import StopFilter


class Watch(Protocol):
    """Keeps back text that may be a tool's call."""

    def feed(self, text: str) -> str:
        """What of the next text is none of a call."""
        ...

    def flush(self) -> str:
        """What was kept back, now that it is text."""
        ...

    def call(self) -> ToolPiece | None:
        """What was kept back, if it is a call."""
        ...


class Writing:
    """One choice.  Its verbs add events to a batch; once it is finished they add none.

    Args:
        stops: what cuts the text off here.
        written: what is out of it already: a stop string may begin in it.
        begun: what the model was given as the beginning of its turn, and may repeat first.
        watch: where the model may write a call as text.

    Attributes:
        finished: its `Finish` was given.
        cut: a stop string ended it here, while the server goes on.
    """

    def __init__(
        self,
        index: int,
        *,
        stops: tuple[str, ...] = (),
        written: str = "",
        begun: str = "",
        watch: Watch | None = None,
    ) -> None:
        self._index = index
        self._stop = StopFilter(stops, written) if stops else None
        self._echo = Echo(begun) if begun else None
        self._watch = watch
        self._tools = ToolCalls(index)
        self.finished = False
        self.cut = False

    def take(self, choice: Choice, batch: Batch) -> None:
        """Add what a chunk, or a whole answer, brings.

        Raises:
            Unreadable: it is none, or ends the answer as nothing that is whole.
        """
        if self.finished:
            return
        scores = scores_of(choice)
        delta = choice.delta or choice.message
        if delta is not None:
            if reasoning := delta.reasoning_content or delta.reasoning:
                batch.append(Reasoning(reasoning, self._index))
            if (text := plain(delta.content)) or scores:
                self.text(text, batch, scores)
            self.calls(delta.tool_calls or (), batch)
        if choice.text or (scores and delta is None):
            self.text(choice.text or "", batch, scores)
        if choice.finish_reason and not self.finished:
            self.finish(reason(choice.finish_reason), batch)

    def text(self, text: str, batch: Batch, scores: tuple[TokenScore, ...] = ()) -> None:
        """Add what of a text is new."""
        if self.finished:
            return
        if self._echo is not None:
            text = self._echo.feed(text)
        if self._watch is not None:
            text = self._watch.feed(text)
        self._told(text, batch, scores)

    def calls(self, pieces: Iterable[ToolPiece], batch: Batch) -> None:
        """Add pieces of calls; text that waited comes before them."""
        if not pieces or self.finished:
            return
        if self._release(batch):
            batch.extend(fragment for piece in pieces if (fragment := self._tools.take(piece)) is not None)

    def finish(self, reason: FinishReason, batch: Batch) -> None:
        """End it; the first reason counts.  Some servers say `stop` where tools were called.

        Raises:
            Unreadable: a call was never named.
        """
        if self.finished:
            return
        if self._watch is not None and (leaked := self._watch.call()) is not None:
            self.calls([leaked], batch)
        if self._tools.nameless:
            raise Unreadable("called a tool without naming it")
        if not self._release(batch):
            return
        self.finished = True
        called = reason == "stop" and self._tools.any
        batch.append(Finish("tool_calls" if called else reason, self._index))

    def _told(self, text: str, batch: Batch, scores: tuple[TokenScore, ...] = ()) -> None:
        """Give text that is new, up to a stop string."""
        met = False
        if self._stop is not None:
            text, met = self._stop.feed(text)
        if text or scores:
            batch.append(Text(text, self._index, scores))
        if met:
            self.cut = True
            self.finish("stop", batch)

    def _release(self, batch: Batch) -> bool:
        """Give the text that waited, for the rest of a repetition or of a stop string.

        Returns whether the answer goes on: what waited may hold a stop string.
        """
        for holder in (self._echo, self._watch):
            if holder is not None and (held := holder.flush()):
                self._told(held, batch)
        if self._stop is not None and (held := self._stop.flush()):
            batch.append(Text(held, self._index))
        return not self.finished
