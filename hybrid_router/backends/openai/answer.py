"""An answer in text: OpenAI's chunks, or one whole document, read as events of all its choices."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from hybrid_router.backends.chunks import REASONS, Choice, Delta, Scalar, ToolPiece
from hybrid_router.backends.errand import Unreadable
from hybrid_router.backends.openai import wire
from hybrid_router.backends.prefill import Echo
from hybrid_router.backends.readers import Events
from hybrid_router.backends.scores import scores as scores_of
from hybrid_router.backends.tally import Tally
from hybrid_router.backends.tool_calls import ToolCalls
from hybrid_router.core.event import Batch, Finish, FinishReason, Reasoning, Text, TokenScore, Usage
from hybrid_router.core.stops import StopFilter

_DONE = b"[DONE]"


class Answer:
    """Reads the reply to one request.  See `backends.errand.Reader`.

    Args:
        first: index of its first choice.
        count: how many choices it has.
        stops: what cuts the text off here, since the server is not told of it.
        written: what is out of it already: a stop string may begin in it.
        begun: what the model was given as the beginning of its turn, and may repeat first.
    """

    def __init__(
        self,
        *,
        first: int = 0,
        count: int = 1,
        stops: tuple[str, ...] = (),
        written: str = "",
        begun: str = "",
    ) -> None:
        self._choices = [_Choice(first + i, stops, written, begun) for i in range(count)]
        self._tally = Tally()
        self._ended = False
        self._events = Events(self._read, self._end, self._is_done, self._whole)

    @property
    def done(self) -> bool:
        """Whether nothing more is to be read."""
        return self._events.done

    @property
    def finished(self) -> bool:
        """Whether every choice is whole: what follows is a matter of counting."""
        return all(choice.finished for choice in self._choices)

    @property
    def usage(self) -> Usage | None:
        """What was counted, as far as it was told; unknown if a stop string cut the answer short."""
        return None if any(choice.cut for choice in self._choices) else self._tally.usage

    def head(self, media_type: str, headers: Mapping[str, str]) -> Batch:
        """Check what comes."""
        return self._events.head(media_type, headers)

    def feed(self, chunk: bytes) -> Batch:
        """The events that are whole now, up to the one that breaks the answer."""
        return self._events.feed(chunk)

    def end(self) -> Batch:
        """What is left to say."""
        return self._events.end()

    def _is_done(self) -> bool:
        return self._ended or all(choice.cut for choice in self._choices)

    def _read(self, payload: bytes) -> Batch:
        if payload == _DONE:
            return self._end()
        return self._document(payload) if payload else []

    def _whole(self, body: bytes) -> Batch:
        return self._document(body) + self._end()

    def _end(self) -> Batch:
        """`[DONE]`, or the end of the reply: a finish reason makes an answer whole."""
        if not self.finished:
            raise Unreadable("ended its answer without a finish reason")
        self._ended = True
        return []

    def _document(self, payload: bytes) -> Batch:
        document = wire.document(payload)
        if document.error:
            raise Unreadable("reported an error", reported=payload)
        if document.usage is not None:
            self._tally.take(document.usage, alone=not document.choices)
        batch: Batch = []
        for choice in document.choices or ():
            self._choice(choice.index or 0).take(choice, batch)
        return batch

    def _choice(self, index: int) -> _Choice:
        """The choice that a server numbers so, from 0 in each reply."""
        if not 0 <= index < len(self._choices):
            raise Unreadable("answered a choice that was not asked for")
        return self._choices[index]


class _Choice:
    """One choice.

    Attributes:
        finished: its `Finish` was given; later text is dropped.
        cut: a stop string ended it here, while the server goes on.
    """

    def __init__(self, index: int, stops: tuple[str, ...], written: str, begun: str) -> None:
        self._index = index
        self._stop = StopFilter(stops, written) if stops else None
        self._echo = Echo(begun) if begun else None
        self._tools = ToolCalls(index)
        self.finished = False
        self.cut = False

    def take(self, choice: Choice, batch: Batch) -> None:
        """Add what a chunk brings."""
        if self.finished:
            return
        scores = scores_of(choice)
        if (delta := choice.delta or choice.message) is not None:
            self._delta(delta, scores, batch)
        elif choice.text or scores:
            self._text(choice.text or "", scores, batch)
        if choice.finish_reason and not self.finished:
            self._finish(_reason(choice.finish_reason), batch)

    def _delta(self, delta: Delta, scores: tuple[TokenScore, ...], batch: Batch) -> None:
        if reasoning := delta.reasoning_content or delta.reasoning:
            batch.append(Reasoning(reasoning, self._index))
        if (text := _shown(delta.content)) or scores:
            self._text(text, scores, batch)
        if delta.tool_calls and not self.finished:
            self._calls(delta.tool_calls, batch)

    def _text(self, text: str, scores: tuple[TokenScore, ...], batch: Batch) -> None:
        """Give text that is new, up to a stop string."""
        met = False
        if self._echo is not None:
            text = self._echo.feed(text)
        if self._stop is not None:
            text, met = self._stop.feed(text)
        if text or scores:
            batch.append(Text(text, self._index, scores))
        if met:
            self.cut = True
            self._finish("stop", batch)

    def _calls(self, pieces: list[ToolPiece], batch: Batch) -> None:
        self._release(batch)
        if not self.finished:
            batch.extend(fragment for piece in pieces if (fragment := self._tools.take(piece)) is not None)

    def _release(self, batch: Batch) -> None:
        """Give the text that waited, for the rest of a repetition or of a stop string."""
        if self._echo is not None and (held := self._echo.flush()):
            self._text(held, (), batch)
        if not self.finished and self._stop is not None and (held := self._stop.flush()):
            batch.append(Text(held, self._index))

    def _finish(self, reason: FinishReason, batch: Batch) -> None:
        """Finish once.  Some servers say `stop` where tools were called."""
        if self._tools.nameless:
            raise Unreadable("called a tool without naming it")
        if not self.cut:
            self._release(batch)
        if self.finished:
            return
        self.finished = True
        called = reason == "stop" and self._tools.any
        batch.append(Finish("tool_calls" if called else reason, self._index))


def _shown(content: Scalar) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return msgspec.json.encode(content).decode()


def _reason(told: str) -> FinishReason:
    """OpenAI's word for a reason; one that nobody knows says nothing of whether the answer is whole."""
    reason = REASONS.get(told)
    if reason is None:
        raise Unreadable(f"ended its answer with {told[:40]!r}")
    return reason
