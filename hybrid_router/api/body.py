"""Reading a request's body: plain JSON, bounded in size and time."""

from __future__ import annotations

import asyncio

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
    if (request.content_length or 0) > limit_bytes:
        raise _too_large(limit_bytes)
    if request.content.is_eof():  # it came with the head: no timer needed
        return _checked(request.content.read_nowait(), limit_bytes)
    timeout_s = server.body_timeout
    try:
        async with asyncio.timeout(timeout_s):
            await invite(request)
            return await _gather(request, limit_bytes)
    except TimeoutError:
        raise BodyTimeout(f"the body did not arrive within {duration_text(timeout_s)}") from None
    except web.RequestPayloadError:
        request.content.feed_eof()  # nothing more to be read and dropped
        raise CallRefused("the body is not well-formed HTTP") from None


async def _gather(request: web.Request, limit_bytes: int) -> bytes:
    """Read to the end or one read beyond the limit."""
    body = bytearray()
    while chunk := await request.content.readany():
        body += chunk
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
    return bytes(body)


async def invite(request: web.Request) -> None:
    """Tell a client that asked first to send its body.  Only now: guard and limits have had their say."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= (1, 1):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


def _checked(body: bytes, limit_bytes: int) -> bytes:
    """`body`, if it is within the limit; a chunked one may have come whole."""
    if len(body) > limit_bytes:
        raise _too_large(limit_bytes)
    return body


def _too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is over {limit_bytes} bytes (body_limit in router.yaml)")


def _check_type(request: web.Request) -> None:
    """Insist on application/json: a web page cannot send that elsewhere without asking (CORS preflight).

    Compressed bodies are refused, not unpacked: one may grow a thousandfold.
    """
    content_type = request.headers.get("Content-Type", "").strip().lower()
    if content_type not in _PLAIN and not _is_json(content_type):
        raise UnsupportedMediaType(
            "send the body as JSON and say so; with curl: -H 'content-type: application/json' -d '{…}'"
        )
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaType("send the body uncompressed, without a Content-Encoding header")


def _is_json(content_type: str) -> bool:
    """Whether the type is JSON in UTF-8, whatever other parameters and spaces it has."""
    kind, *parameters = (part.strip() for part in content_type.split(";"))
    charsets = [p.partition("=")[2].strip('" ') for p in parameters if p.startswith("charset=")]
    return kind == "application/json" and all(charset in {"utf-8", "utf8"} for charset in charsets)


async def ignore_expect(request: web.Request) -> None:
    """aiohttp's own invites every body, before anything is checked; `read` does it later."""
