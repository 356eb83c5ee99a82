"""Reading a request's body: plain JSON, bounded in size and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aiohttp import web

from hybrid_router.api.generation import CURRENT
from hybrid_router.core.errors import BodyTimeout, BodyTooLarge, CallRefused, UnsupportedMediaType
from hybrid_router.core.units import duration_text

_PLAIN = frozenset({"application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"})


async def read(request: web.Request) -> bytes:
    """The body, whole.

    Raises:
        UnsupportedMediaType: it is not plain JSON, by its headers.
        BodyTooLarge: it is over `body_limit`, announced or found.
        BodyTimeout: it took longer than `body_timeout`.
        CallRefused: its chunks are malformed.
    """
    _check_type(request)
    server = request.app[CURRENT].generation.server
    limit_bytes = server.body_limit
    check_size(request.content_length or 0, limit_bytes)
    if request.content.is_eof():  # it came with the head: no timer needed
        whole = request.content.read_nowait()
        check_size(len(whole), limit_bytes)  # a chunked one has announced nothing
        return whole
    async with arriving(request, server.body_timeout):
        return await gather(request, limit_bytes)


@asynccontextmanager
async def arriving(request: web.Request, timeout_s: float) -> AsyncGenerator[None]:
    """Around what reads a body; its client is told to send it, if it has asked.

    Raises:
        BodyTimeout: it took longer than `timeout_s`.
        CallRefused: its chunks are malformed.
    """
    try:
        async with asyncio.timeout(timeout_s):
            await invite(request)
            yield
    except TimeoutError:
        raise BodyTimeout(f"the body did not arrive within {duration_text(timeout_s)}") from None
    except web.RequestPayloadError:
        request.content.feed_eof()  # nothing more to be read and dropped
        raise CallRefused("the body is not well-formed HTTP") from None


async def gather(request: web.Request, limit_bytes: int, first: bytes = b"") -> bytes:
    """Read to the end or one read beyond the limit; `first` was read before.

    Raises:
        BodyTooLarge: it is over the limit.
    """
    body = bytearray(first)
    check_size(len(body), limit_bytes)
    while chunk := await request.content.readany():
        body += chunk
        check_size(len(body), limit_bytes)
    return bytes(body)


async def invite(request: web.Request) -> None:
    """Tell a client that asked first to send its body.  Only now: guard and limits have had their say."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= (1, 1):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


def check_size(size_bytes: int, limit_bytes: int, key: str = "body_limit") -> None:
    """Raises BodyTooLarge: it is over the limit, which `key` of router.yaml sets."""
    if size_bytes > limit_bytes:
        raise BodyTooLarge(f"the body is over {limit_bytes} bytes ({key} in router.yaml)")


def check_uncompressed(request: web.Request) -> None:
    """Compressed bodies are refused, not unpacked: one may grow a thousandfold.

    Raises:
        UnsupportedMediaType: by its headers, it is one.
    """
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaType("send the body uncompressed, without a Content-Encoding header")


def _check_type(request: web.Request) -> None:
    """Insist on application/json: a web page cannot send that elsewhere without asking (CORS preflight)."""
    content_type = request.headers.get("Content-Type", "").strip().lower()
    if content_type not in _PLAIN and not _is_json(content_type):
        raise UnsupportedMediaType(
            "send the body as JSON and say so; with curl: -H 'content-type: application/json' -d '{…}'"
        )
    check_uncompressed(request)


def _is_json(content_type: str) -> bool:
    """Whether the type is JSON in UTF-8, whatever other parameters and spaces it has."""
    kind, *parameters = (part.strip() for part in content_type.split(";"))
    charsets = [p.partition("=")[2].strip('" ') for p in parameters if p.startswith("charset=")]
    return kind == "application/json" and all(charset in {"utf-8", "utf8"} for charset in charsets)


async def ignore_expect(request: web.Request) -> None:
    """aiohttp's own invites every body, before anything is checked; `read` does it later."""
