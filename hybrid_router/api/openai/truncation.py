"""What may be left out of a text that is too long for a model that embeds or ranks."""

from __future__ import annotations

from typing import Literal, TypeAlias

# `true` is Ollama's and text-embeddings-inference's: keep the beginning.
Truncate: TypeAlias = Literal["middle", "oldest", "end"] | bool | None


def truncation(written: Truncate) -> Literal["middle", "oldest", "end"] | None:
    """As `Call.truncate`."""
    if isinstance(written, bool):
        return "end" if written else None
    return written
