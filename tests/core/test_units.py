"""Durations and sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.core import units


@pytest.mark.parametrize(
    ("text", "expected"),
    [("250ms", 0.25), ("5s", 5.0), ("1.5m", 90.0), ("2h", 7200.0), ("7d", 604_800.0)],
)
def test_durations_are_read(text: str, expected: float) -> None:
    """Each unit means what it says."""
    assert units.seconds(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("512B", 512), ("8MiB", 8 << 20), ("1.5GB", 1_500_000_000)])
def test_sizes_are_read(text: str, expected: int) -> None:
    """Binary and decimal units differ."""
    assert units.size_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "-1s", "5s\n", "1e3s", "٣s"])
def test_a_bad_duration_says_how_to_write_one(text: str) -> None:
    """The error is the documentation."""
    with pytest.raises(ValueError, match="as in 30s"):
        units.seconds(text)


@pytest.mark.parametrize("text", ["", "5", "5mb", "-1MiB"])
def test_a_bad_size_says_how_to_write_one(text: str) -> None:
    """The error is the documentation."""
    with pytest.raises(ValueError, match="as in 8MiB"):
        units.size_bytes(text)


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [(0.25, "250ms"), (90.0, "90s"), (600.0, "600s"), (5400.0, "90m"), (7200.0, "2h"), (3601.0, "3601s"),
     (5_184_000.0, "60d"), (1_234_567.5, "1234567.5s")],
)  # fmt: skip
def test_durations_are_written_as_people_do(duration_s: float, text: str) -> None:
    """In the largest unit that leaves a whole number, from an hour on; never with an exponent."""
    assert units.duration_text(duration_s) == text


@given(st.integers(min_value=1, max_value=30 * 86_400_000))
def test_a_duration_survives_being_written(milliseconds: int) -> None:
    """`check` prints what `load` would read."""
    value = milliseconds / 1000

    assert units.seconds(units.duration_text(value)) == pytest.approx(value, rel=1e-5)
