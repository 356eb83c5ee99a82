"""Reads a sound file while it comes.  See `backends.errand.Reader`."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from hybrid_router.backends.errand import Unreadable
from hybrid_router.backends.readers import ANSWER_LIMIT_BYTES, JSON, Whole
from hybrid_router.backends.workers_ai.tasks import recording, results
from hybrid_router.core.asks import SoundFormat
from hybrid_router.core.event import Batch, Finish, Sound

_WHAT = "a sound"
_TYPES = ("audio/", "application/octet-stream")
_HEAD_BYTES = 12
_KINDS: Mapping[SoundFormat, str] = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "",
}


class _Spoken(Struct, gc=False):
    audio: str


class Sounding:
    """A file of one format; its first bytes must be of that.

    Args:
        in_json: it is expected as base64 within JSON; bytes are read as well.  Otherwise JSON is an error
            that the cloud tells in band.
    """

    def __init__(self, wanted: SoundFormat, *, in_json: bool = False) -> None:
        self._kind = _KINDS[wanted]
        self._wanted = wanted
        self._in_json = in_json
        self._whole: Whole | None = None
        self._ends_itself = False
        self._head = b""
        self._checked = False
        self._size_bytes = 0
        self.done = False

    def head(self, media_type: str, headers: Mapping[str, str]) -> Batch:
        """Check what comes."""
        self._ends_itself = "Content-Length" in headers or "Transfer-Encoding" in headers
        if not media_type.startswith(_TYPES):
            self._whole = Whole(self._decoded, JSON if self._in_json else _TYPES)
            return self._whole.head(media_type, headers)
        return []

    def feed(self, chunk: bytes) -> Batch:
        """Pass it on, once enough of it is there to tell what it is."""
        if self._whole is not None:
            return self._whole.feed(chunk)
        self._size_bytes += len(chunk)
        if self._size_bytes > ANSWER_LIMIT_BYTES:
            raise Unreadable(f"sent more than {ANSWER_LIMIT_BYTES} bytes")
        if self._checked:
            return [Sound(chunk)]
        self._head += chunk
        return self._released() if len(self._head) >= _HEAD_BYTES else []

    def end(self) -> Batch:
        """What is held, and that this was all; a connection that just ends does not say so."""
        self.done = True
        if self._whole is not None:
            return self._whole.end()
        if not self._ends_itself:
            raise Unreadable("ended its sound without a sign that it was whole")
        batch = [] if self._checked else self._released()
        return [*batch, Finish("stop")]

    def _released(self) -> Batch:
        if not self._head:
            raise Unreadable(f"answered without {_WHAT}")
        self._check(self._head)
        self._checked = True
        return [Sound(self._head)]

    def _decoded(self, body: bytes) -> Batch:
        told = results.read(body, _Spoken | str, _WHAT)  # type: ignore[arg-type]
        content = results.from_base64(told if isinstance(told, str) else told.audio, _WHAT)
        if not content:
            raise Unreadable(f"answered without {_WHAT}")
        self._check(content)
        return [Sound(content), Finish("stop")]

    def _check(self, content: bytes) -> None:
        found = recording.kind(content[:_HEAD_BYTES])
        if self._kind and found != self._kind:
            raise Unreadable(
                f"sent another kind of sound than {self._wanted}",
                detail=found or "nothing known",
            )
