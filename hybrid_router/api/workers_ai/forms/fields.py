"""Fields of a native input: typed values, and files that came inside JSON."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from hybrid_router.api.multipart import system_is_full
from hybrid_router.api.workers_ai.form import Given
from hybrid_router.core.errors import CallRefused
from hybrid_router.core.upload import Upload, upload_of

Fields = TypeVar("Fields", bound=Struct)

_PLACE = re.compile(r" - at `\$(?P<path>[^`]*)`\Z")
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]*)`")
_DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[\w.+-]+)*;base64,", re.IGNORECASE)
_MOST_HEAD_CHARS = 256


def read(given: Given, kind: type[Fields], *, strict: bool = True) -> tuple[Fields, dict[str, Any]]:
    """The body as `kind`, and the fields that `kind` does not have.  Not `strict`: all came as text.

    Raises:
        CallRefused: a field is missing or of the wrong type; `param` is its path.
    """
    body = given.body if given.body is not None else {}
    known = kind.__struct_encode_fields__
    extra = {name: value for name, value in body.items() if name not in known}
    try:
        return msgspec.convert(body, kind, strict=strict), extra
    except msgspec.ValidationError as error:
        raise _misfit(str(error)) from error


def _misfit(text: str) -> CallRefused:
    """What is wrong, with the place in the words of this API: `/image/3`."""
    found = _PLACE.search(text)
    path = "" if found is None else re.sub(r"\[(\d+)\]", r".\1", found["path"])
    place = path.replace(".", "/") or "/"
    if missing := _MISSING.match(text):
        return CallRefused(f"required properties at '{place}' are '{missing['name']}'", param=place)
    return CallRefused(f"{_PLACE.sub('', text)} at '{place}'", param=place)


def integers(values: list[int], field: str) -> Upload:
    """A file as a list of its bytes.

    Raises:
        CallRefused: it is empty, or a number is not from 0 to 255.
        UploadsFull: the system has no room for it.
    """
    return _kept(_of_integers(values, field), "")


def text(value: str, field: str, media_type: str = "") -> Upload:
    """A file as base64 or as a `data:` URL.

    Raises:
        CallRefused: it is neither, or empty.
        UploadsFull: the system has no room for it.
    """
    told, file = _of_text(value, field)
    return _kept(file, told or media_type)


def enclosed(value: str | list[int], field: str) -> Upload:
    """A file as any of these."""
    return text(value, field) if isinstance(value, str) else integers(value, field)


def content(value: str | list[int], field: str) -> bytes:
    """What would be in the file, where none is needed.

    Raises:
        CallRefused: as for a file.
    """
    return _of_text(value, field)[1] if isinstance(value, str) else _of_integers(value, field)


def _of_integers(values: list[int], field: str) -> bytes:
    try:
        return _filled(bytes(values), field)
    except (TypeError, ValueError):
        raise CallRefused(f"the numbers of '/{field}' are bytes, from 0 to 255", param=f"/{field}") from None


def _of_text(value: str, field: str) -> tuple[str | None, bytes]:
    """Which type it says it has, and its bytes."""
    head = _DATA_URL.match(value, 0, min(len(value), _MOST_HEAD_CHARS))
    try:
        file = base64.b64decode(value if head is None else value[head.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise CallRefused(f"'/{field}' is not base64", param=f"/{field}") from None
    return None if head is None else head["type"], _filled(file, field)


def _filled(file: bytes, field: str) -> bytes:
    if not file:
        raise CallRefused(f"the file of '/{field}' is empty", param=f"/{field}")
    return file


def _kept(file: bytes, media_type: str) -> Upload:
    with system_is_full():
        return upload_of(file, media_type=media_type)
