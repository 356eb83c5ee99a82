"""Reading a form with files: bounded in size, count and time, the files kept in memory without a name."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from aiohttp import (
    BadContentDispositionHeader,
    BadContentDispositionParam,
    BodyPartReader,
    MultipartReader,
    web,
)
from aiohttp.http_exceptions import HttpProcessingError
from msgspec import Struct, field

from hybrid_router.api import body
from hybrid_router.api.generation import CURRENT
from hybrid_router.config.schema import Server
from hybrid_router.core.errors import (
    BodyTimeout,
    BodyTooLarge,
    CallRefused,
    UnsupportedMediaType,
    UnsupportedParameter,
    UploadsFull,
)
from hybrid_router.core.units import duration_text
from hybrid_router.core.upload import Draft, Upload

_CHUNK_BYTES = 256 * 1024
_MOST_FIELDS = 128
_MOST_FILES = 32
_FIELD_BYTES = 256 * 1024
_HEADS_BYTES = 1 << 20  # what all parts' heads and borders may take
_ODD_HEADS = (BadContentDispositionHeader, BadContentDispositionParam)
_MALFORMED = (ValueError, AssertionError, HttpProcessingError, web.RequestPayloadError, *_ODD_HEADS)


class Form(Struct, eq=False):
    """A form as it came.

    Attributes:
        fields: name, without a trailing `[]`, → its values in their order.
        files: name, the same way, → its files in their order.
    """

    fields: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, list[Upload]] = field(default_factory=dict)

    def close(self) -> None:
        """Let go of all files."""
        for uploads in self.files.values():
            for upload in uploads:
                upload.close()

    def only(self, name: str, noun: str, example: str) -> Upload:
        """The one file there is.

        Args:
            noun: what it is called where there are several.
            example: a file's name for whoever sent none.

        Raises:
            CallRefused: there is none, more than one, an empty one, or one by another name.
        """
        found = self.files.get(name, [])
        if len(found) != 1:
            wanted = "this field is required, as a file" if not found else f"one {noun} at a time"
            raise CallRefused(f"{name}: {wanted}; with curl: -F {name}=@{example}", param=name)
        for other in self.files:
            if other != name:
                raise UnsupportedParameter(f"{other}: only `{name}` is read here", param=other)
        if not found[0].size_bytes:
            raise CallRefused(f"{name}: it is empty", param=name)
        return found[0]

    def values(self, lists: frozenset[str] = frozenset()) -> dict[str, Any]:
        """The fields as in JSON; those in `lists` are lists, of others the last value counts."""
        return {name: found if name in lists else found[-1] for name, found in self.fields.items()}


class Shelf:
    """How much of the memory for files is taken.  One for the whole process."""

    def __init__(self) -> None:
        self._taken_bytes = 0

    def take(self, size_bytes: int, server: Server) -> None:
        """Raises UploadsFull: there is no room now."""
        if self._taken_bytes + size_bytes > server.uploads_memory:
            raise UploadsFull(
                "too many files are here at the moment; ask again (server.uploads_memory in router.yaml)",
                retry_after_s=2.0,
            )
        self._taken_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        self._taken_bytes -= size_bytes


SHELF: Final = web.AppKey("shelf", Shelf)


def raise_for_odd_heads() -> None:
    """Have a part's head that does not parse raised, in the whole process.

    The library warns of it with its text, which is the client's, and goes on without a part of it.
    """
    for odd in _ODD_HEADS:
        warnings.filterwarnings("error", category=odd)


@contextmanager
def system_is_full() -> Iterator[None]:
    """Around what makes or fills a file.  Raises UploadsFull where the system has no room for it."""
    try:
        yield
    except OSError as error:
        raise UploadsFull(
            "no more files can be taken at the moment; ask again", detail=repr(error), retry_after_s=2.0
        ) from None


@asynccontextmanager
async def form(request: web.Request) -> AsyncIterator[Form]:
    """The request's form; its files are gone when the context is left.

    Raises:
        UnsupportedMediaType: it is no multipart/form-data, by its headers.
        BodyTooLarge: files and fields are over `upload_limit`, or too many.
        BodyTimeout: it took longer than `upload_timeout`.
        UploadsFull: no memory is left for it at the moment.
        CallRefused: it is malformed.
    """
    server = request.app[CURRENT].generation.server
    _check_head(request, server)
    reading = _Reading(request, server)
    try:
        try:
            async with asyncio.timeout(server.upload_timeout):
                await body.invite(request)
                await reading.run()
        except TimeoutError:
            raise BodyTimeout(
                f"the form did not arrive within {duration_text(server.upload_timeout)}"
            ) from None
        except _MALFORMED as error:
            raise _malformed(error) from None
        yield reading.form
    finally:
        reading.form.close()
        request.app[SHELF].give_back(reading.taken_bytes)


def _check_head(request: web.Request, server: Server) -> None:
    if request.content_type != "multipart/form-data":
        raise UnsupportedMediaType(
            "send the file as a form (multipart/form-data); with curl: -F file=@speech.mp3 -F model=…"
        )
    body.check_uncompressed(request)
    if (request.content_length or 0) > server.upload_limit + _HEADS_BYTES:
        raise _too_large(server)


class _Reading:
    """One form on its way."""

    def __init__(self, request: web.Request, server: Server) -> None:
        self._request = request
        self._server = server
        self._shelf = request.app[SHELF]
        self._fields_count = self._files_count = self._size_bytes = 0
        self.taken_bytes = 0
        self.form = Form()

    async def run(self) -> None:
        """Read to the end."""
        reader = await self._request.multipart()
        while (part := await _next(reader)) is not None:
            if isinstance(part, MultipartReader):
                raise CallRefused("a form within a form is not read here")
            await self._take(part)

    async def _take(self, part: BodyPartReader) -> None:
        name, filename = _named(part)
        if filename is None:
            self._fields_count += 1
            if self._fields_count > _MOST_FIELDS:
                raise BodyTooLarge(f"the form has more than {_MOST_FIELDS} fields")
            self.form.fields.setdefault(name, []).append(await self._text(part, name))
            return
        self._files_count += 1
        if self._files_count > _MOST_FILES:
            raise BodyTooLarge(f"the form has more than {_MOST_FILES} files")
        self.form.files.setdefault(name, []).append(await self._file(part, filename))

    async def _text(self, part: BodyPartReader, name: str) -> str:
        text = bytearray()
        while chunk := await part.read_chunk(_CHUNK_BYTES):
            text += chunk
            self._count(len(chunk))
            if len(text) > _FIELD_BYTES:
                raise BodyTooLarge(f"{name}: over {_FIELD_BYTES} bytes")
        try:
            return text.decode()
        except UnicodeDecodeError:
            raise CallRefused(f"{name}: not UTF-8", param=name) from None

    async def _file(self, part: BodyPartReader, filename: str) -> Upload:
        with system_is_full():
            draft = Draft(filename, part.headers.get("Content-Type", ""))
        try:
            while chunk := await part.read_chunk(_CHUNK_BYTES):
                self._count(len(chunk))
                self._shelf.take(len(chunk), self._server)
                self.taken_bytes += len(chunk)
                with system_is_full():
                    draft.write(chunk)
            return draft.done()
        finally:
            draft.close()

    def _count(self, size_bytes: int) -> None:
        self._size_bytes += size_bytes
        if self._size_bytes > self._server.upload_limit:
            raise _too_large(self._server)


async def _next(reader: MultipartReader) -> BodyPartReader | MultipartReader | None:
    """The next part."""
    try:
        return await reader.next()
    except RuntimeError as error:  # a `_charset_` that is none
        raise _malformed(error) from None


def _malformed(error: Exception) -> CallRefused:
    """The refusal of a form.  Only the error's type is kept: its text may quote what was sent."""
    return CallRefused("the form is not well-formed multipart/form-data", detail=type(error).__name__)


def _named(part: BodyPartReader) -> tuple[str, str | None]:
    """A part's name and its file's."""
    name, filename = (part.name or "").removesuffix("[]"), part.filename
    if not name:
        raise CallRefused("a part of the form has no name")
    return name, filename


def _too_large(server: Server) -> BodyTooLarge:
    return BodyTooLarge(f"the form is over {server.upload_limit} bytes (upload_limit in router.yaml)")
