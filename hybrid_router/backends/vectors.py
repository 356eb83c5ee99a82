"""Vectors as clouds give them, brought to length 1: what is compared is their direction."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from hybrid_router.backends.errand import Unreadable
from hybrid_router.core.event import Embedding

_NEARLY = 1e-4  # so far from 1 a length may be and count as such


def embedding(row: Sequence[float], index: int) -> Embedding:
    """The event of a vector.

    Raises:
        Unreadable: it has no direction.
    """
    length = math.hypot(*row)
    if not 0 < length < math.inf:
        raise Unreadable("sent a vector that has no direction")
    if abs(length - 1) > _NEARLY:
        row = [value / length for value in row]
    return Embedding(struct.pack(f"<{len(row)}f", *row), index)
