"""Several choices that one reply brings, as the chat-completion family gives them."""

from __future__ import annotations

from collections.abc import Sequence

from hybrid_router.backends.errand import Unreadable
from hybrid_router.backends.workers_ai.answer import Answer, parsed, parsed_whole
from hybrid_router.core.event import Batch, Usage


class Several:
    """Reads them like one `Answer`.  What breaks one breaks all: their chunks come through one stream."""

    def __init__(self, choices: Sequence[Answer]) -> None:
        self._choices = choices

    @property
    def finished(self) -> bool:
        """Whether each choice has its `Finish`."""
        return all(choice.finished for choice in self._choices)

    @property
    def done(self) -> bool:
        """Whether nothing more is to be read."""
        return self.broken is not None or all(choice.done for choice in self._choices)

    @property
    def cut(self) -> bool:
        """Whether stop strings ended all of them, while upstream goes on."""
        return all(choice.cut for choice in self._choices)

    @property
    def broken(self) -> Unreadable | None:
        """Why one of them cannot go on, if that is so."""
        return next((choice.broken for choice in self._choices if choice.broken is not None), None)

    @property
    def usage(self) -> Usage | None:
        """What upstream counted of all; unknown if a stop string cut one of them short."""
        return None if any(choice.cut for choice in self._choices) else self._choices[0].usage

    def read(self, payloads: list[bytes]) -> Batch:
        """See `Answer.read`.  Each payload is parsed once, however many choices there are."""
        batch: Batch = []
        for payload in filter(None, payloads):
            document = parsed(payload)
            for choice in self._choices:
                if not choice.done:
                    choice.take(document, payload, batch)
        return batch

    def read_whole(self, body: bytes) -> Batch:
        """See `Answer.read_whole`."""
        batch: Batch = []
        document = parsed_whole(body)
        for choice in self._choices:
            choice.take_whole(document, body, batch)
        return batch

    def end(self) -> None:
        """See `Answer.end`."""
        for choice in self._choices:
            choice.end()

    def fail(self, broken: Unreadable) -> None:
        """See `Answer.fail`."""
        for choice in self._choices:
            choice.fail(broken)
