"""Server-sent events, sans I/O: bytes in, the payloads of whole events out.

Only `data` matters here; comments, `event`, `id` and `retry` are read over.  Works on bytes, so a character
split between two reads stays whole.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html, "Interpreting an event stream".
"""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"
_DATA_SPACE = b"data: "
_BLANK = b"\n\n"
_BETWEEN = _BLANK + _DATA_SPACE


class EventTooLong(Exception):
    """A line or an event is longer than the decoder may hold."""


class Decoder:
    """Decodes one stream.  Holds at most `limit_bytes` of an unfinished line and as much of an event."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._tail = bytearray()  # of an unfinished line
        self._lines: list[bytes] = []  # data of an unfinished event
        self._held_bytes = 0  # size of `_lines`, newlines counted
        self._after_cr = False  # a line feed that comes next belongs to a line that has ended
        self._at_start = True  # where a byte order mark may stand

    def feed(self, chunk: bytes) -> list[bytes]:
        """The payloads that `chunk` completes, lines of one event joined by a line feed.

        Raises:
            EventTooLong: the stream cannot be decoded any further.
        """
        if self._at_start:
            chunk = self._without_mark(chunk)
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if (pieces := self._plain(chunk)) is not None:
            return pieces
        if b"\n" in chunk or b"\r" in chunk:
            return self._events(chunk)
        self._tail += chunk
        self._check(len(self._tail))
        return []

    def end(self) -> list[bytes]:
        """The payload of a last event whose blank line was left out, if there is one."""
        return [*self._events(b"\n"), *self._dispatch()] if self._tail or self._lines else []

    def _without_mark(self, chunk: bytes) -> bytes:
        """What follows a byte order mark; nothing while it cannot be told."""
        start = bytes(self._tail) + chunk
        self._tail.clear()
        if len(start) < len(_BOM) and _BOM.startswith(start):
            self._tail += start
            return b""
        self._at_start = False
        return start.removeprefix(_BOM)

    def _plain(self, chunk: bytes) -> list[bytes] | None:
        """The payloads of what well-behaved servers send: whole events of one `data: ` line each; else None.

        Two line feeds for each piece, counted over all, leave none for its inside.
        """
        if (
            not (chunk.startswith(_DATA_SPACE) and chunk.endswith(_BLANK))
            or self._tail
            or self._lines
            or len(chunk) > self._limit_bytes
            or b"\r" in chunk
        ):
            return None
        pieces = chunk[len(_DATA_SPACE) : -len(_BLANK)].split(_BETWEEN)
        return pieces if chunk.count(b"\n") == 2 * len(pieces) else None

    def _events(self, chunk: bytes) -> list[bytes]:
        """Take `chunk` line by line; it holds the end of at least one."""
        payloads: list[bytes] = []
        lines = (bytes(self._tail) + chunk).splitlines(keepends=True)
        self._tail.clear()
        if not lines[-1].endswith((b"\n", b"\r")):
            self._tail += lines.pop()
            self._check(len(self._tail))
        elif lines[-1].endswith(b"\r"):
            self._after_cr = True
        for line in lines:
            bare = line.rstrip(b"\r\n")
            if bare:
                self._take(bare)
            else:
                payloads += self._dispatch()
        return payloads

    def _take(self, line: bytes) -> None:
        """Keep the value of a data line."""
        self._check(len(line))
        field, _, value = line.partition(b":")
        if field != b"data":
            return
        value = value.removeprefix(b" ")
        self._held_bytes += len(value) + 1
        self._check(self._held_bytes - 1)
        self._lines.append(value)

    def _dispatch(self) -> list[bytes]:
        """A blank line ends the event; one without data is none."""
        if not self._lines:
            return []
        payload = self._lines[0] if len(self._lines) == 1 else b"\n".join(self._lines)
        self._lines.clear()
        self._held_bytes = 0
        return [payload]

    def _check(self, size_bytes: int) -> None:
        if size_bytes > self._limit_bytes:
            raise EventTooLong(f"a line or event of more than {self._limit_bytes} bytes")


class NamedDecoder:
    """As `Decoder`, where `event` matters, too: (name, payload), the name empty if none is told.

    A class of its own, since no other stream's events should pay for names that nobody reads.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._decoder = _Naming(limit_bytes)

    def feed(self, chunk: bytes) -> list[tuple[str, bytes]]:
        """The events that `chunk` completes.

        Raises:
            EventTooLong: the stream cannot be decoded any further.
        """
        return self._named(self._decoder.feed(chunk))

    def end(self) -> list[tuple[str, bytes]]:
        """A last event whose blank line was left out, if there is one."""
        return self._named(self._decoder.end())

    def _named(self, payloads: list[bytes]) -> list[tuple[str, bytes]]:
        names, self._decoder.names = self._decoder.names, []
        return list(zip(names, payloads, strict=True))


class _Naming(Decoder):
    """Notes the name of each event whose payload it gives."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(limit_bytes)
        self.names: list[str] = []
        self._name = ""  # of an unfinished event; the last one counts

    def _plain(self, chunk: bytes) -> list[bytes] | None:
        """Every line is looked at."""

    def _take(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        if field == b"event":
            self._name = value.removeprefix(b" ").decode("utf-8", "replace")
        else:
            super()._take(line)

    def _dispatch(self) -> list[bytes]:
        payloads = super()._dispatch()
        self.names += [self._name] * len(payloads)
        self._name = ""
        return payloads
