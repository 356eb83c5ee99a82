"""How many tokens a text will be, before any tokenizer has seen it.  See `routing.estimate` for how well."""

from __future__ import annotations

ASCII_PER_TOKEN = 4
BYTES_PER_TOKEN = 3


def text_tokens(text: str) -> int:
    """Estimated tokens of a text; 0 only for an empty one."""
    ascii_count = len(text) if text.isascii() else len(text.encode("ascii", "ignore"))
    wide_bytes = 0 if text.isascii() else len(text.encode("utf-8", "replace")) - ascii_count
    return -(-ascii_count // ASCII_PER_TOKEN) + -(-wide_bytes // BYTES_PER_TOKEN)
