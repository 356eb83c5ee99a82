"""Reading a body that is a document or a file: by its type, or by its first byte where it has none.

Many apps send bytes without a type, or JSON as what `curl -d` calls it.  A page of another site cannot use
that: the guard refuses it by its origin before anything is read.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aiohttp import web
from msgspec import Struct

from hybrid_router.api import body
from hybrid_router.api.generation import CURRENT
from hybrid_router.api.multipart import SHELF, system_is_full
from hybrid_router.config.schema import Server
from hybrid_router.core.errors import CallRefused
from hybrid_router.core.upload import Draft, Upload

_JSON = "application/json"
# What says nothing about a body: forms are not read as forms here, and some clients send this with anything.
_UNTOLD = frozenset({"", "application/x-www-form-urlencoded", "text/plain"})
_SPACE = b" \t\r\n"


def told_type(request: web.Request) -> str:
    """The media type that the request tells of its body; empty where what it tells says nothing."""
    told = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return "" if told in _UNTOLD else told


def is_document(told: str, begun: bytes) -> bool:
    """Whether a body of this told type that begins so is a JSON document, and no file."""
    return told == _JSON or (not told and begun.lstrip(_SPACE)[:1] in (b"{", b"["))


class Received(Struct, frozen=True):
    """One of them is there: `document`, the bytes of a JSON document that is not read yet, or a file."""

    document: bytes | None = None
    upload: Upload | None = None


@asynccontextmanager
async def received(request: web.Request) -> AsyncGenerator[Received]:
    """The request's body; its file is gone when the context is left.

    Raises:
        UnsupportedMediaType: it is compressed.
        BodyTooLarge: a document is over `body_limit`, a file over `upload_limit`, announced or found.
        BodyTimeout: it took longer than `body_timeout` or `upload_timeout`.
        UploadsFull: no memory is left for it at the moment.
        CallRefused: its chunks are malformed.
    """
    if request.content_type == _JSON:
        yield Received(document=await body.read(request))
        return
    reading = _Reading(request)
    try:
        yield await reading.run()
    finally:
        reading.close()


class _Reading:
    """One body on its way."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._server: Server = request.app[CURRENT].generation.server
        self._shelf = request.app[SHELF]
        self._taken_bytes = 0
        self._upload: Upload | None = None
        self._media_type = told_type(request)

    async def run(self) -> Received:
        """Read to the end."""
        body.check_uncompressed(self._request)
        self._check_file(self._request.content_length or 0)
        async with body.arriving(self._request, self._server.upload_timeout):
            return await self._read()

    def close(self) -> None:
        """Let go of the file."""
        if self._upload is not None:
            self._upload.close()
        self._shelf.give_back(self._taken_bytes)

    async def _read(self) -> Received:
        limit_bytes = self._server.body_limit
        begun = bytearray()
        while piece := await self._request.content.readany():
            begun += piece
            if self._media_type or piece.lstrip(_SPACE):
                break
            body.check_size(len(begun), limit_bytes)
        first = bytes(begun)
        if is_document(self._media_type, first):
            body.check_size(self._request.content_length or 0, limit_bytes)
            return Received(document=await body.gather(self._request, limit_bytes, first))
        self._upload = await self._file(first)
        return Received(upload=self._upload)

    async def _file(self, first: bytes) -> Upload:
        with system_is_full():
            draft = Draft("", self._media_type)
        try:
            self._add(draft, first)
            while piece := await self._request.content.readany():
                self._add(draft, piece)
            if not draft.size_bytes:
                raise CallRefused("request is missing headers or body: body")
            return draft.done()
        finally:
            draft.close()

    def _add(self, draft: Draft, piece: bytes) -> None:
        self._check_file(draft.size_bytes + len(piece))
        self._shelf.take(len(piece), self._server)
        self._taken_bytes += len(piece)
        with system_is_full():
            draft.write(piece)

    def _check_file(self, size_bytes: int) -> None:
        body.check_size(size_bytes, self._server.upload_limit, "upload_limit")
