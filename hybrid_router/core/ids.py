"""Ids: random, 128 bits, so that none can be guessed or counted."""

from __future__ import annotations

import secrets

_DIGITS_COUNT = 32
_AHEAD_COUNT = 128


def new(prefix: str) -> str:
    """A fresh id such as `chatcmpl-5f3a…` (32 hexadecimal digits after the prefix)."""
    return prefix + secrets.token_hex(_DIGITS_COUNT // 2)


class Supply:
    """Fresh ids from random bytes fetched many at a time: each fetch is a call of the kernel."""

    __slots__ = ("_at", "_digits")

    def __init__(self) -> None:
        self._digits = ""
        self._at = 0

    def new(self, prefix: str) -> str:
        """As `new`."""
        if self._at == len(self._digits):
            self._digits, self._at = secrets.token_hex(_AHEAD_COUNT * _DIGITS_COUNT // 2), 0
        self._at += _DIGITS_COUNT
        return prefix + self._digits[self._at - _DIGITS_COUNT : self._at]


def sibling(of: str, prefix: str) -> str:
    """The id of another thing of the same call: its digits behind another prefix.

    So request, answer and decision find each other in any log, and asking the kernel for random bytes, which
    costs more than anything else about an id, is done once a call.
    """
    return prefix + of[-_DIGITS_COUNT:]
