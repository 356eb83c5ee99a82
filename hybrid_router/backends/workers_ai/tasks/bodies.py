"""What is sent to `/ai/run`, with files that are read while they are sent and never copied whole."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from hybrid_router.backends.errand import Errand
from hybrid_router.backends.forms import File, FormBody
from hybrid_router.core.upload import Upload

PIECE_BYTES = 3 * 2**16  # of whole triplets, so that pieces of base64 join
NUMBERS_COUNT = 2**16
_TRIPLET, _QUARTET = 3, 4
_BELOW_10, _BELOW_100 = bytes(range(10)), bytes(range(100))


class Raw(Struct, frozen=True):
    """A file's bytes."""

    upload: Upload

    @property
    def size_bytes(self) -> int:
        return self.upload.size_bytes


class Base64(Struct, frozen=True):
    """The same as base64."""

    upload: Upload

    @property
    def size_bytes(self) -> int:
        return -(-self.upload.size_bytes // _TRIPLET) * _QUARTET


class Numbers(Struct, frozen=True):
    """Bytes as a list of numbers in JSON, which is made while it is sent: it is four times as large."""

    content: bytes

    @property
    def size_bytes(self) -> int:
        count = len(self.content)
        longer_count = sum(len(self.content.translate(None, short)) for short in (_BELOW_10, _BELOW_100))
        return count + longer_count + max(count - 1, 0) + len(b"[]")


Part: TypeAlias = bytes | Raw | Base64 | Numbers


def path(model: str) -> str:
    """Where a model runs."""
    return f"run/{quote(model, safe='@/')}"


def document(model: str, fields: Mapping[str, Any]) -> Errand:
    """A request in JSON."""
    return Errand(path=path(model), body=msgspec.json.encode(fields))


def document_with(model: str, fields: Mapping[str, Any], files: Mapping[str, Upload | Numbers]) -> Errand:
    """The same with files as further fields: in base64, unless they are to be numbers."""
    begun = msgspec.json.encode(fields)[:-1]
    parts: list[Part] = [begun]
    for name, file in files.items():
        comma = b"" if begun == b"{" and len(parts) == 1 else b","
        parts.append(comma + msgspec.json.encode(name) + b":")
        parts += [file] if isinstance(file, Numbers) else [b'"', Base64(file), b'"']
    return errand(model, [*parts, b"}"], "application/json")


def raw(model: str, upload: Upload, media_type: str, query: Mapping[str, str] | None = None) -> Errand:
    """A file alone; what else there is to say is in the query."""
    return errand(model, [Raw(upload)], media_type, urlencode(query or {}))


def form(model: str, fields: Mapping[str, str], files: Mapping[str, tuple[Upload, str]]) -> Errand:
    """A multipart form.

    Args:
        files: by the field's name, each with its media type.
    """
    sent = [File(name, replace(upload, media_type=kind), name) for name, (upload, kind) in files.items()]
    body = FormBody(fields.items(), sent)
    return Errand(
        path=path(model),
        body=body,
        media_type=body.media_type,
        headers={"Content-Length": str(body.size_bytes)},
    )


def errand(model: str, parts: list[Part], media_type: str, query: str = "") -> Errand:
    """A request of parts that are joined on the way.  Its length is known, so it is not sent in chunks."""
    size_bytes = sum(len(part) if isinstance(part, bytes) else part.size_bytes for part in parts)
    return Errand(
        path=path(model),
        query=query,
        body=lambda: _pieces(parts),
        media_type=media_type,
        headers={"Content-Length": str(size_bytes)},
    )


async def _pieces(parts: list[Part]) -> AsyncIterator[bytes]:
    for part in parts:
        match part:
            case bytes():
                yield part
            case Numbers(content=content):
                for start in range(0, len(content), NUMBERS_COUNT):
                    written = msgspec.json.encode(list(content[start : start + NUMBERS_COUNT]))
                    yield (b"," if start else b"[") + written[1:-1]
                yield b"]" if content else b"[]"
            case Raw() | Base64():
                encode = base64.b64encode if isinstance(part, Base64) else bytes
                with part.upload.mapped() as pages:
                    for start in range(0, len(pages), PIECE_BYTES):
                        yield encode(pages[start : start + PIECE_BYTES])
