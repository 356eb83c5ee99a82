"""What every emulated picture shows: stripes in two colours that its prompt decides."""

from __future__ import annotations

import hashlib
from typing import TypeAlias

Colour: TypeAlias = tuple[int, int, int]  # red, green, blue

STRIPE_ROWS = 64


def colours(said: str) -> tuple[Colour, Colour]:
    """The same two for the same words."""
    digest = hashlib.sha256(said.encode()).digest()
    return (digest[0], digest[1], digest[2]), (digest[3], digest[4], digest[5])
