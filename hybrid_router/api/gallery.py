"""Pictures that wait to be fetched: in memory, for their owner alone, for an hour."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from aiohttp import web
from msgspec import Struct

from hybrid_router.core import ids

LIFETIME_S = 3600.0  # OpenAI's own
MOST_BYTES = 256 * 2**20
_BY_HEAD = ((b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))
_WEBP = slice(8, 12)


class Exhibit(Struct, frozen=True):
    """One picture.  `until_s` is on the gallery's clock."""

    content: bytes
    media_type: str
    principal: str
    until_s: float


class Gallery:
    """What can be fetched.  When it is full, whoever has most in it loses their oldest."""

    def __init__(self, *, most_bytes: int = MOST_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_bytes = most_bytes
        self._clock = clock
        self._exhibits: dict[str, Exhibit] = {}  # the oldest first
        self._taken_bytes: Counter[str] = Counter()  # by principal

    def add(self, content: bytes, principal: str) -> str:
        """Keep a picture; the id is random, so that none can be guessed."""
        self.sweep()
        while self._exhibits and self._taken_bytes.total() + len(content) > self._most_bytes:
            self._drop(self._oldest_of_largest())
        name = ids.new("img-")
        self._exhibits[name] = Exhibit(content, media_type(content), principal, self._clock() + LIFETIME_S)
        self._taken_bytes[principal] += len(content)
        return name

    def find(self, name: str, principal: str) -> Exhibit | None:
        """A picture; None if it is not there any more, never was, or is somebody else's."""
        self.sweep()
        exhibit = self._exhibits.get(name)
        return exhibit if exhibit is not None and exhibit.principal == principal else None

    def sweep(self) -> None:
        """Forget those whose time is over."""
        now_s = self._clock()
        while self._exhibits:
            name, oldest = next(iter(self._exhibits.items()))
            if oldest.until_s > now_s:
                return
            self._drop(name)

    def _oldest_of_largest(self) -> str:
        principal, _ = self._taken_bytes.most_common(1)[0]
        return next(name for name, exhibit in self._exhibits.items() if exhibit.principal == principal)

    def _drop(self, name: str) -> None:
        exhibit = self._exhibits.pop(name)
        self._taken_bytes[exhibit.principal] -= len(exhibit.content)
        if not self._taken_bytes[exhibit.principal]:
            del self._taken_bytes[exhibit.principal]


GALLERY: Final = web.AppKey("gallery", Gallery)


def media_type(content: bytes) -> str:
    """What a picture is, by its own first bytes: a backend may have made something else than it was asked."""
    for head, found in _BY_HEAD:
        if content.startswith(head):
            return found
    return "image/webp" if content[_WEBP] == b"WEBP" else "application/octet-stream"
