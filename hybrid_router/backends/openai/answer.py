"""An answer in text: OpenAI's chunks, or one whole document, read as events of all its choices."""

from __future__ import annotations

from collections.abc import Mapping

from hybrid_router.backends.errand import Unreadable
from hybrid_router.backends.openai import wire
from hybrid_router.backends.readers import Events
from hybrid_router.backends.tally import Tally
from hybrid_router.backends.writing import Writing
from hybrid_router.core.event import Batch, Usage

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
        self._choices = [Writing(first + i, stops=stops, written=written, begun=begun) for i in range(count)]
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

    def _choice(self, index: int) -> Writing:
        """The choice that a server numbers so, from 0 in each reply."""
        if not 0 <= index < len(self._choices):
            raise Unreadable("answered a choice that was not asked for")
        return self._choices[index]
