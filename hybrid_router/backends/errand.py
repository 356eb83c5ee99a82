"""One request to a cloud and its reply: what is sent is made beforehand, what comes is read piece by piece.

Both ends are plain data, so that a cloud's words are pure functions; only `Line` touches the network.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Literal, Protocol, TypeAlias

import aiohttp
from msgspec import Struct, field
from yarl import URL

from hybrid_router.backends.http import Http
from hybrid_router.core.errors import BackendError, RouterError
from hybrid_router.core.event import Batch

Body: TypeAlias = bytes | Callable[[], AsyncIterator[bytes]]
ERROR_LIMIT_BYTES = 2**16
_OK = range(200, 300)


class Errand(Struct, frozen=True, kw_only=True):
    """One request.

    Attributes:
        path: below the cloud's root, ready for a URL.
        query: the same, without the question mark.
        body: whole, or made piece by piece where it is large, anew for each time it is sent.
        media_type: of the body.
        headers: besides credentials; no secrets.
    """

    path: str
    method: Literal["GET", "POST", "DELETE", "PUT"] = "POST"
    query: str = ""
    body: Body = b""
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class Unreadable(Exception):
    """A reply that is no answer, or not a whole one.

    Attributes:
        why: what the cloud did, behind its name: `sent a picture that is none`.
        reported: the reply in its own words, if it named an error in band: the refusal table reads it.
        detail: for the log.
    """

    def __init__(self, why: str, *, reported: bytes = b"", detail: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.reported = reported
        self.detail = detail


def malformed(error: Exception) -> Unreadable:
    """A reply that is not of its form, as a decoder says."""
    return Unreadable("sent what is not its format", detail=f"{type(error).__name__}: {error}")


class Reader(Protocol):
    """Reads one reply.  Any of its verbs may raise `Unreadable`."""

    @property
    def done(self) -> bool:
        """Whether nothing more is to be read, though the reply may go on."""
        ...

    def head(self, media_type: str, headers: Mapping[str, str]) -> Batch:
        """The reply begins: its type without parameters, in lower case."""
        ...

    def feed(self, chunk: bytes) -> Batch:
        """Some bytes of the body, at least one."""
        ...

    def end(self) -> Batch:
        """The body is over."""
        ...


class Words(Protocol):
    """What a cloud says of itself.

    Attributes:
        label: its name in messages.
    """

    label: str

    def headers(self) -> Mapping[str, str]:
        """Credentials.  Called for each request, so that no frame holds them."""
        ...

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> RouterError:
        """What an error reply means."""
        ...


class Line:
    """The way to one cloud.

    Args:
        root: the cloud's address.
    """

    def __init__(self, http: Http, root: str, words: Words) -> None:
        self._http = http
        self._root = root.rstrip("/")
        self._words = words

    async def run(self, errand: Errand, reader: Reader, connect_s: float) -> AsyncGenerator[Batch]:
        """Send and read.  Closing the generator closes the connection.

        Raises:
            RouterError: `CallRefused` or `BackendError`; a caller that has had a batch before knows what that
                means for its own stream.
        """
        reply = await self._sent(errand, connect_s)
        words = self._words
        try:
            if reply.status not in _OK:
                raise words.refusal(reply.status, reply.headers, await error_body(self._http, reply))
            try:
                if batch := reader.head(reply.content_type.lower(), reply.headers):
                    yield batch
                while not reader.done and (chunk := await self._http.read(reply)):
                    if batch := reader.feed(chunk):
                        yield batch
                if not reader.done and (batch := reader.end()):
                    yield batch
            except Unreadable as no:
                if no.reported:
                    raise words.refusal(reply.status, reply.headers, no.reported) from None
                raise self._http.failed(f"{words.label} {no.why}", no.detail) from None
            await self._http.settle(reply)
        finally:
            reply.close()

    async def _sent(self, errand: Errand, connect_s: float) -> aiohttp.ClientResponse:
        query = f"?{errand.query}" if errand.query else ""
        url = URL(f"{self._root}/{errand.path}{query}", encoded=True)
        described = {"Accept-Encoding": "identity"}
        if errand.body:
            described["Content-Type"] = errand.media_type
        body = errand.body if isinstance(errand.body, bytes) else errand.body()
        return await self._http.send(
            errand.method,
            url,
            body,
            lambda: {**described, **errand.headers, **self._words.headers()},
            connect_s,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._http.close()


async def error_body(http: Http, reply: aiohttp.ClientResponse) -> bytes:
    """The body of a reply that is an error; one that is too long or broken off says nothing."""
    try:
        return await http.read_whole(reply, ERROR_LIMIT_BYTES)
    except BackendError:
        return b""
