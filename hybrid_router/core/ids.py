"""Ids: random, 128 bits, so that none can be guessed or counted."""

from __future__ import annotations

import secrets

_DIGITS_COUNT = 32


def new(prefix: str) -> str:
    """A fresh id such as `chatcmpl-5f3a…` (32 hexadecimal digits after the prefix)."""
    return prefix + secrets.token_hex(_DIGITS_COUNT // 2)


def sibling(of: str, prefix: str) -> str:
    """The id of another thing of the same call: its digits behind another prefix.

    So request, answer and decision find each other in any log, and asking the kernel for random bytes, which
    costs more than anything else about an id, is done once a call.
    """
    return prefix + of[-_DIGITS_COUNT:]
