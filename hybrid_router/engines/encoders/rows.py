"""Texts side by side in the rows of one forward pass, instead of padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_SIDE_BY_SIDE = (2, 3, 4, 6)  # texts in a row, about
_SLACK = 1.03  # rows that are filled to the last cell are seldom found
# In a row so wide attention takes as long as all else.
_WIDE_CELLS = 1024


@dataclass(frozen=True)
class Rows:
    """Where texts are.  `starts`: of each the cell it begins in, counted through all rows."""

    count: int
    width: int
    starts: tuple[int, ...]

    @property
    def cost(self) -> float:
        """What computing them takes: a cell's time, and more of it the wider rows are."""
        return self.count * self.width * (1 + self.width / _WIDE_CELLS)


def rows(lengths: Sequence[int]) -> Rows:
    """Lay texts of these lengths into rows that cost little."""
    return min((_laid(lengths, width) for width in _widths(lengths)), key=lambda one: one.cost)


def _widths(lengths: Sequence[int]) -> Iterator[int]:
    longest, mean = max(lengths), sum(lengths) / len(lengths)
    yield longest
    for count in _SIDE_BY_SIDE:
        if count <= len(lengths):
            yield max(longest, round(mean * count * _SLACK))


def _laid(lengths: Sequence[int], width: int) -> Rows:
    """Each text, the longest first, in the first row that has room."""
    used: list[int] = []
    starts = [0] * len(lengths)
    for at in sorted(range(len(lengths)), key=lambda one: lengths[one], reverse=True):
        row = next((row for row, count in enumerate(used) if count + lengths[at] <= width), len(used))
        if row == len(used):
            used.append(0)
        starts[at] = row * width + used[row]
        used[row] += lengths[at]
    return Rows(len(used), width, tuple(starts))
