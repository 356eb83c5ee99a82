"""Tokens guessed ahead by looking them up: what followed the last few tokens the last time.

Pays where an answer repeats its prompt: edits of code, quotes, tables.  Each guess is checked against what
the model would have chosen, so it changes no answer beyond the arithmetic of a larger batch.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

# The longest run of last tokens that is looked for, and the shortest.
_LONGEST, _SHORTEST = 4, 2
_LOOK_BACK = 8192


def looked_up(tokens: Sequence[int], most_count: int) -> list[int]:
    """At most `most_count` tokens that followed the same last tokens before, the latest place first."""
    if most_count <= 0 or len(tokens) <= _LONGEST:
        return []
    recent = array("i", tokens[-_LOOK_BACK:])
    width, packed = recent.itemsize, recent.tobytes()
    for count in range(_LONGEST, _SHORTEST - 1, -1):
        at = _last_place(packed, recent[-count:].tobytes(), width)
        if at is not None:
            return list(recent[at + count : at + count + most_count])
    return []


def _last_place(packed: bytes, wanted: bytes, width: int) -> int | None:
    """Where `wanted` was before its place at the very end, in tokens."""
    end = len(packed) - width
    while (found := packed.rfind(wanted, 0, end)) >= 0:
        if found % width == 0:
            return found // width
        end = found + len(wanted) - 1
    return None
