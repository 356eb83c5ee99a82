"""Readers for the kinds of replies that clouds give.  See `backends.errand.Reader`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from hybrid_router.backends.errand import Unreadable
from hybrid_router.core.event import Batch
from hybrid_router.core.sse import Decoder, EventTooLong

ANSWER_LIMIT_BYTES = 64 * 2**20
EVENT_LIMIT_BYTES = 16 * 2**20  # an event may hold a picture in base64
JSON = ("application/json",)
Decode: TypeAlias = Callable[[bytes], Batch]


class Whole:
    """A reply that is read once all of it is there.

    Args:
        decode: the events of the body.  It raises `Unreadable` for one that is no answer.
        media_types: what it may be of; `image/` stands for all that begin so.  JSON where none was expected
            is an error that the cloud tells in band.
    """

    def __init__(
        self, decode: Decode, media_types: tuple[str, ...] = JSON, limit_bytes: int = ANSWER_LIMIT_BYTES
    ) -> None:
        self._decode = decode
        self._media_types = media_types
        self._limit_bytes = limit_bytes
        self._body = bytearray()
        self._in_band = False
        self.done = False

    def head(self, media_type: str, headers: Mapping[str, str]) -> Batch:
        """Check what comes."""
        if not media_type.startswith(self._media_types):
            self._in_band = media_type in JSON
            if not self._in_band:
                raise Unreadable("answered with something that is no answer", detail=_named(media_type))
        return []

    def feed(self, chunk: bytes) -> Batch:
        """Keep it."""
        self._body += chunk
        if len(self._body) > self._limit_bytes:
            raise Unreadable(f"sent more than {self._limit_bytes} bytes")
        return []

    def end(self) -> Batch:
        """Read all of it."""
        self.done = True
        body = bytes(self._body)
        if self._in_band:
            raise Unreadable("reported an error", reported=body)
        return self._decode(body)


class Events:
    """A stream of events.

    Args:
        read: the events of one event's data.
        end: what is left to say once the stream is over; it raises `Unreadable` if that came too early.
        is_done: whether nothing more is to be read.
        otherwise: reads a reply that is no stream though one was asked for; None: that is no answer.
    """

    def __init__(
        self,
        read: Decode,
        end: Callable[[], Batch],
        is_done: Callable[[], bool],
        otherwise: Decode | None = None,
    ) -> None:
        self._read = read
        self._end = end
        self._is_done = is_done
        self._otherwise = otherwise
        self._whole: Whole | None = None
        self._decoder = Decoder(EVENT_LIMIT_BYTES)
        self._broken: Unreadable | None = None

    @property
    def done(self) -> bool:
        """Whether the last event was read.

        Raises:
            Unreadable: what came behind the events that were given last.
        """
        if self._broken is not None:
            raise self._broken
        return self._is_done()

    def head(self, media_type: str, headers: Mapping[str, str]) -> Batch:
        """Check what comes."""
        if media_type == "text/event-stream":
            return []
        if self._otherwise is None or media_type not in JSON:
            raise Unreadable("answered with something that is no stream", detail=_named(media_type))
        self._whole = Whole(self._otherwise)
        return []

    def feed(self, chunk: bytes) -> Batch:
        """The events that are whole now."""
        if self._whole is not None:
            return self._whole.feed(chunk)
        try:
            payloads = self._decoder.feed(chunk)
        except EventTooLong as error:
            raise Unreadable("sent an event that is too long", detail=str(error)) from None
        return self._all(payloads)

    def end(self) -> Batch:
        """Those of an event without its blank line, and what is left to say."""
        if self._whole is not None:
            return self._whole.end()
        batch = self._all(self._decoder.end())
        return batch if self.done else batch + self._end()

    def _all(self, payloads: list[bytes]) -> Batch:
        """The events of these payloads, up to one that breaks the stream: what came before it counts."""
        batch: Batch = []
        for payload in payloads:
            if self.done:
                break
            try:
                batch += self._read(payload)
            except Unreadable as no:
                if not batch:
                    raise
                self._broken = no
                break
        return batch


def _named(media_type: str) -> str:
    return f"content type {media_type[:100]}"
