"""What `/ai/run` answers in JSON: an envelope with a result, or the result alone."""

from __future__ import annotations

import base64
import binascii
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from hybrid_router.backends.errand import Unreadable

T = TypeVar("T")


class _Envelope(Struct, gc=False):
    result: msgspec.Raw | UnsetType = UNSET
    success: bool = True
    errors: Any = None
    error: Any = None


_ENVELOPE = msgspec.json.Decoder(_Envelope)


def read(body: bytes, kind: type[T], what: str) -> T:
    """The result.

    Args:
        what: what was wanted, such as `a transcript`, for messages.

    Raises:
        Unreadable: an error is reported, or there is none of that kind.
    """
    try:
        found = _ENVELOPE.decode(body)
    except (ValueError, RecursionError):  # a list, or no JSON: the next look tells
        found = _Envelope()
    if found.errors or found.error or not found.success:
        raise Unreadable("reported an error", reported=body)
    try:
        return msgspec.json.decode(body if found.result is UNSET else found.result, type=kind)
    except (ValueError, RecursionError) as error:  # ValueError: also bad UTF-8
        raise Unreadable(f"answered without {what}", detail=f"{type(error).__name__}: {error}") from None


def from_base64(text: str, what: str) -> bytes:
    """The bytes of a text, which may be a data URL.

    Raises:
        Unreadable: they are none.
    """
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise Unreadable(f"answered without {what}", detail="the base64 is broken") from None
