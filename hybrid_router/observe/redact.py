"""Taking secrets out of text.  Pure, and linear in the text's length whatever the text (RE2).

Two nets: values we know, however they are spelled (plain, JSON-escaped, percent-encoded, cut short), and
what looks like a secret: Authorization headers, bearer tokens, keys with well-known prefixes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import re2

from hybrid_router.core.secret import Secret

MARK = "[redacted]"

# Shorter values are no secrets; taking them out would only make the rest unreadable.
SHORTEST_CHARS = 4

# This much of a known secret is enough to hide it and whatever follows of it: a quoted body may have
# been cut in the middle of a token.
_HEAD_CHARS = 8
# Nested this deep at most, so that a key file of many kilobytes still compiles.
_NESTED_CHARS = 96

_NAMES = (
    r"authorization|cookie|x-auth-key|api[-_ ]?key|client[-_]?secret|password|passwd"
    r"|(?:api|auth|access|refresh|session)[-_]?token"
)
# `name: value`, `"name": "value"`, `name=value`, and the ('name', 'value') of a repr'd header list.
_NAMED = (
    rf"((?i:{_NAMES})(?:(?:\\{{0,4}}[\"'])?\s{{0,8}}[:=]\s{{0,8}}|\\{{0,4}}[\"']\s{{0,8}},\s{{0,8}})"
    r"(?:b?\\{0,4}[\"'])?)[^\r\n\"]+"
)
_BLANK = r"(?:\s|%20|\+|\\{1,4}[tnr]|\\{1,4}u0020)+"
_BEARER = rf"((?i:bearer){_BLANK})[^\s\"',;)]+"
_BASIC = rf"((?i:basic){_BLANK})[A-Za-z0-9+/=_\-]{{12,}}"
_CLOUDFLARE = r"()cf(?:ut|at|k)_[A-Za-z0-9_\-]{8,}"
_JWT = r"()eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-.]{8,}"
# A letter in front makes it a word, as in task-…, unless the letter belongs to an escape such as \n.
_PREFIXED = (
    r"(^|[^A-Za-z0-9]|\\[nrtbf]|\\u[0-9a-fA-F]{4}|%[0-9A-Fa-f]{2})"
    r"(?:sk-|hr_|hf_|r8_|gsk_|xai-|AIza|gh[pousr]_)[A-Za-z0-9_\-.]{12,}"
)
_LOOKS_SECRET = (_NAMED, _BEARER, _BASIC, _CLOUDFLARE, _JWT, _PREFIXED)

# What a line's values are cleaned of one by one: anything but ASCII, DEL, numbers of more than 64 bits.
_NEEDS_CARE = r"[^\x00-\x7e]|[0-9]{19}"

_SHORT_ESCAPES = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}


class Redactor:
    """Replaces secrets by `[redacted]`."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        values = {secret.reveal() for secret in secrets}
        known = [_spelled(value) for value in sorted(values) if len(value) >= SHORTEST_CHARS]
        self._known = [re2.compile(pattern) for pattern in known]
        self._looks_secret = [re2.compile(pattern) for pattern in _LOOKS_SECRET]
        suspect = "|".join(f"(?:{pattern})" for pattern in (*known, *_LOOKS_SECRET))
        self._any = _whether(suspect)
        self._any_care = _whether(f"{suspect}|{_NEEDS_CARE}")

    def suspects(self, line: bytes) -> bool:
        """Whether an encoded line may hold a secret: about two microseconds, so every line is asked."""
        return self._any.search(line) is not None

    def passes(self, line: bytes) -> bool:
        """Whether an encoded line may be written as it is: no suspect, and nothing but plain ASCII in it."""
        return self._any_care.search(line) is None

    def __call__(self, text: str) -> str:
        """`text` without its secrets."""
        text = encodable(text)
        for pattern in self._known:
            text = pattern.sub(MARK, text)
        for pattern in self._looks_secret:
            text = pattern.sub(rf"\1{MARK}", text)
        return text


def encodable(text: str) -> str:
    """`text` with lone surrogates spelled out: they have no UTF-8 form."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode()


def _whether(pattern: str) -> Any:
    """`pattern`, to be asked whether it occurs.  Not where: that costs more than the search."""
    options = re2.Options()
    options.never_capture = True
    return re2.compile(pattern, options)


def _spelled(value: str) -> str:
    """A pattern for `value` or a head of it, each character however it may be escaped."""
    spelled = [_character(one) for one in encodable(value)]
    tail = "".join(spelled[_NESTED_CHARS:])
    pattern = f"(?:{tail})?" if tail else ""
    for one in reversed(spelled[_HEAD_CHARS:_NESTED_CHARS]):
        pattern = f"(?:{one}{pattern})?"
    return "".join(spelled[:_HEAD_CHARS]) + pattern


def _character(one: str) -> str:
    """One character: itself behind any backslashes, a JSON escape, or percent-encoded."""
    if one == "\\":
        return r"(?:\\{1,8}(?:u005[cC])?|%5[cC])"
    units = one.encode("utf-16-be").hex()
    escape = "".join(rf"\\{{1,8}}u(?i:{units[at : at + 4]})" for at in range(0, len(units), 4))
    percent = "".join(f"%(?i:{byte:02x})" for byte in one.encode())
    short = rf"|\\{{1,8}}{_SHORT_ESCAPES[one]}" if one in _SHORT_ESCAPES else ""
    return rf"(?:\\{{0,8}}{re2.escape(one)}|{escape}|{percent}{short})"
