"""Ids: random, 128 bits, so that none can be guessed or counted."""

from __future__ import annotations

import secrets


def new(prefix: str) -> str:
    """A fresh id such as `chatcmpl-5f3a…` (32 hexadecimal digits after the prefix)."""
    return prefix + secrets.token_hex(16)
