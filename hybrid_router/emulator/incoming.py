"""A request's body, whatever it came as: JSON, bytes, or a form with files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec
from aiohttp import web
from aiohttp.web_request import FileField
from msgspec import Struct, field

from hybrid_router.api.raw import is_document, told_type
from hybrid_router.api.workers_ai.refusal import Refusal

# What was asked: `/ai/run`, or one of `/ai/v1/…`.
Address: TypeAlias = Literal["run", "chat", "embeddings", "responses"]

_ADDRESSES: tuple[tuple[str, Address], ...] = (
    ("/v1/chat/completions", "chat"),
    ("/v1/embeddings", "embeddings"),
    ("/v1/responses", "responses"),
)


class File(Struct, frozen=True, kw_only=True):
    """One file of a form."""

    content: bytes
    name: str = ""
    media_type: str = ""


class Incoming(Struct, frozen=True, kw_only=True):
    """What was read.  `body` None: the body is `content`, of type `media_type`."""

    body: dict[str, Any] | None = None
    content: bytes = b""
    media_type: str = ""
    files: tuple[tuple[str, File], ...] = ()
    is_form: bool = False
    query: Mapping[str, str] = field(default_factory=dict)


def address_of(path: str) -> Address:
    """Which address was called."""
    return next((address for ending, address in _ADDRESSES if path.endswith(ending)), "run")


async def read(request: web.Request) -> Incoming:
    """The request's body: a document or a file by the rule that the router's own dialect has.

    Raises:
        Refusal: 3003 empty, 3006 too large, 5006 what says that it is JSON is no JSON object.
    """
    try:
        if request.content_type == "multipart/form-data":
            return await _form(request)
        raw = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise Refusal(3006) from None
    if not raw:
        raise Refusal(3003)
    query, told = dict(request.query), told_type(request)
    if is_document(told, raw):
        return Incoming(body=json_object(raw), query=query)
    return Incoming(content=raw, media_type=told, query=query)


def json_object(raw: bytes) -> dict[str, Any]:
    """A body that is to be a JSON object.

    Raises:
        Refusal: 5006.
    """
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.ValidationError:
        raise Refusal(5006, "Bad input: Error: Type mismatch of '/', 'object' expected") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(5006, f"Bad input: Error: the body is not JSON: {error}") from None


async def _form(request: web.Request) -> Incoming:
    """Fields as texts, and the files by field, of which one may come several times."""
    try:
        posted = await request.post()
    except ValueError as error:
        raise Refusal(5006, f"Bad input: Error: the form cannot be read: {error}") from None
    fields: dict[str, Any] = {}
    files = []
    for name, value in posted.items():
        if isinstance(value, FileField):
            file = File(content=value.file.read(), name=value.filename, media_type=value.content_type)
            files.append((name, file))
        else:
            fields[name] = value if isinstance(value, str) else bytes(value).decode("utf-8", "replace")
    return Incoming(body=fields, files=tuple(files), is_form=True, query=dict(request.query))
