"""Whole replies: their types, and how one that is none is named."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Struct

from hybrid_router.backends.errand import Unreadable, malformed
from hybrid_router.core.event import Batch, Finish, Usage

T = TypeVar("T")


class TokenCounts(Struct, gc=False):
    """Usage of what is no text; `input_tokens` on newer addresses."""

    prompt_tokens: int | None = None
    total_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    seconds: float | None = None

    @property
    def usage(self) -> Usage:
        """As an event."""
        prompt = self.prompt_tokens or self.input_tokens or self.total_tokens or 0
        return Usage(max(0, prompt), max(0, self.output_tokens or 0), sound_s=max(0.0, self.seconds or 0.0))


def read(body: bytes, kind: type[T]) -> T:
    """A document of this kind.

    Raises:
        Unreadable: it is none; an error in band is passed on as such.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError) as error:
        if _tells_an_error(body):
            raise Unreadable("reported an error", reported=body) from None
        raise malformed(error) from None


def _tells_an_error(body: bytes) -> bool:
    try:
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and bool(document.get("error"))


def each_finished(count: int, counts: TokenCounts | None, first: int = 0) -> Batch:
    """One end for each of `count` answers, and what they cost if somebody counted."""
    ends: Batch = [Finish("stop", first + index) for index in range(count)]
    return ends if counts is None else [*ends, counts.usage]
