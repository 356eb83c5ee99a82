"""What Workers AI sends: one struct for every shape a chunk or a whole answer comes in.

Unknown fields are skipped (`p` is padding against traffic analysis).  A type that none of the known
shapes has is malformed, and said so.  Parsed JSON has no cycles, so the garbage collector need not look
at it (`gc=False`).
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from hybrid_router.backends.chunks import Choice, Counts, Scalar, ToolPiece
from hybrid_router.backends.errand import Unreadable, malformed


class Document(Struct, gc=False):
    """A chunk of a stream, or a whole answer without its envelope.

    `response` is set on classic models and in the line that ends every stream; it is an object in JSON mode.
    """

    choices: list[Choice] | None = None
    response: Scalar | dict[str, Any] | list[Any] | UnsetType = UNSET
    tool_calls: list[ToolPiece] | None = None
    finish_reason: str | None = None
    usage: Counts | None = None
    error: Any = None
    errors: Any = None


class Envelope(Struct, gc=False):
    """A whole answer of `/ai/run`."""

    result: msgspec.Raw | UnsetType = UNSET


_EMPTY = frozenset({b"null", b"{}", b"[]"})
_EMPTY_BYTES = 5  # one more than the longest of them
_document = msgspec.json.Decoder(Document)
_envelope = msgspec.json.Decoder(Envelope)


def document(payload: bytes | msgspec.Raw) -> Document:
    """Read one chunk, or one answer without envelope.

    Raises:
        Unreadable: it is none.
    """
    try:
        return _document.decode(payload)
    except (ValueError, RecursionError) as error:  # ValueError: also bad UTF-8
        raise malformed(error) from None


def whole(body: bytes) -> Document:
    """Read a whole answer, in its envelope or without.

    Raises:
        Unreadable: it is none.
    """
    try:
        result = _envelope.decode(body).result
    except (ValueError, RecursionError) as error:
        raise malformed(error) from None
    # No envelope; or an empty one, which may hold errors.  A whole answer is not copied to see that.
    if result is UNSET or bytes(memoryview(result)[:_EMPTY_BYTES]) in _EMPTY:
        return document(body)
    return document(result)


def says_nothing(body: bytes) -> bool:
    """Whether a whole answer is well-formed, reports no error and is empty all the same."""
    try:
        answer = whole(body)
    except Unreadable:
        return False
    filled = answer.choices or answer.tool_calls or answer.error or answer.errors
    return not filled and (answer.response is UNSET or answer.response in ("", None))
