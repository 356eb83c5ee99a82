"""Replicate's stream of a prediction: events whose names say what their data is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from hybrid_router.backends.errand import Unreadable
from hybrid_router.backends.readers import EVENT_LIMIT_BYTES
from hybrid_router.backends.replicate.text import Said
from hybrid_router.core.event import Batch
from hybrid_router.core.sse import EventTooLong, NamedDecoder

_KNOWN = frozenset({"output", "logs", "error", "done"})


class Stream:
    """See `backends.errand.Reader`.

    Attributes:
        ended: how the prediction ended, once that is told: empty if it is whole, else in its own words.
        broken: why the stream cannot be read any further.
    """

    def __init__(self, said: Said) -> None:
        self._said = said
        self._decoder = NamedDecoder(EVENT_LIMIT_BYTES)
        self.ended: str | None = None
        self.broken: Unreadable | None = None

    @property
    def done(self) -> bool:
        """Whether nothing more is to be read."""
        return self.ended is not None or self.broken is not None or self._said.met

    def head(self, media_type: str, headers: Mapping[str, str]) -> Batch:
        """Check what comes."""
        if media_type != "text/event-stream":
            raise Unreadable(
                "answered with something that is no stream", detail=f"content type {media_type[:100]}"
            )
        return []

    def feed(self, chunk: bytes) -> Batch:
        """The events that are whole now."""
        try:
            return self._all(self._decoder.feed(chunk))
        except EventTooLong as error:
            raise Unreadable("sent an event that is too long", detail=str(error)) from None

    def end(self) -> Batch:
        """Those of an event without its blank line."""
        batch = self._all(self._decoder.end())
        if not self.done:
            self.broken = Unreadable("ended its stream before the answer was whole")
        return batch

    def _all(self, events: list[tuple[str, bytes]]) -> Batch:
        batch: Batch = []
        for name, payload in events:
            if self.done:
                break
            self._one(name, payload, batch)
        return batch

    def _one(self, name: str, payload: bytes, batch: Batch) -> None:
        if name not in _KNOWN:
            self.broken = Unreadable("sent what is not its format", detail=f"an event {name[:40]!r}")
        elif name == "output":
            batch += self._said.feed(payload.decode("utf-8", "replace"))
        elif name == "error":
            self.ended = _words(payload) or "no reason given"
        elif name == "done":
            self.ended = _reason(payload)


def _reason(payload: bytes) -> str:
    """Why it is done: nothing if the answer is whole."""
    document = _document(payload)
    return str(document.get("reason") or "") if isinstance(document, dict) else ""


def _words(payload: bytes) -> str:
    document = _document(payload)
    if isinstance(document, dict):
        return str(document.get("detail") or document.get("error") or "")
    return payload.decode("utf-8", "replace")


def _document(payload: bytes) -> Any:
    try:
        return msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
