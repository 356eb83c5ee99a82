"""What OpenAI's chunks and whole answers look like, with the errors that servers put among them."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from hybrid_router.backends.chunks import Choice, Counts
from hybrid_router.backends.errand import malformed


class Document(Struct, gc=False):
    """A chunk of a stream, or a whole answer."""

    choices: list[Choice] | None = None
    usage: Counts | None = None
    error: Any = None


_DOCUMENT = msgspec.json.Decoder(Document)


def document(payload: bytes) -> Document:
    """Read one chunk or a whole answer.

    Raises:
        Unreadable: it is none.
    """
    try:
        return _DOCUMENT.decode(payload)
    except (ValueError, RecursionError) as error:
        raise malformed(error) from None
