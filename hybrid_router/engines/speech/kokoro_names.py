"""What the names of Kokoro's voices say: `bf_emma` is British, female, Emma."""

from __future__ import annotations

import re

_NAME = re.compile(r"(?P<language>[a-z])[fm]_[a-z0-9_]+")
_ENGLISH = frozenset("ab")


def is_british(name: str) -> bool:
    """Whether a voice is read to by British rules."""
    return _language(name) == "b"


def is_english(name: str) -> bool:
    """Whether it speaks English; a name that says nothing is taken to."""
    return _language(name) in _ENGLISH


def _language(name: str) -> str:
    found = _NAME.fullmatch(name)
    return found["language"] if found else "a"
