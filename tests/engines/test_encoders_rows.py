"""Texts that share rows of a forward pass."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.engines.encoders.rows import rows


@given(st.lists(st.integers(1, 90), min_size=1, max_size=60))
def test_every_text_has_cells_of_its_own_in_one_row(lengths: list[int]) -> None:
    """Whatever the lengths: no two texts overlap, none goes over the end of its row or of the last."""
    laid = rows(lengths)
    cells = [start + i for start, length in zip(laid.starts, lengths, strict=True) for i in range(length)]

    assert len(set(cells)) == sum(lengths)
    assert max(cells) < laid.count * laid.width
    for start, length in zip(laid.starts, lengths, strict=True):
        assert start // laid.width == (start + length - 1) // laid.width


@given(st.lists(st.integers(1, 90), min_size=1, max_size=60))
def test_rows_cost_no_more_than_padding(lengths: list[int]) -> None:
    """Sharing rows is never dearer than a row as wide as the longest text for each."""
    assert rows(lengths).cost <= len(lengths) * max(lengths) * (1 + max(lengths) / 1024)


def test_short_texts_leave_little_room_empty() -> None:
    """Questions of 6 to 14 tokens, padded to the longest, waste a third; in rows less than a tenth."""
    lengths = [6 + at % 9 for at in range(32)]
    laid = rows(lengths)

    assert laid.count * laid.width < 1.1 * sum(lengths)
