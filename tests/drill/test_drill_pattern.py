"""Texts made from regular expressions."""

from __future__ import annotations

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.drill.pattern import examples

ATOMS = ["a", "Z", "7", "-", r"\.", r"\d", r"\w", ".", "[a-f]", "[0-9A-F]", "[^a-z]", "[[:digit:]]", r"[\d_]"]
COUNTS = ["", "?", "*", "+", "{3}", "{2,}", "{1,4}", "*?"]
PIECES = st.builds(str.__add__, st.sampled_from(ATOMS), st.sampled_from(COUNTS))
SEQUENCES = st.lists(PIECES, min_size=1, max_size=5).map("".join)
CHOICES = st.lists(SEQUENCES, min_size=1, max_size=3).map("|".join)
GROUPED = st.builds("{}({}){}".format, SEQUENCES, CHOICES, st.sampled_from(COUNTS[:-1]))


@given(st.one_of(SEQUENCES, CHOICES, GROUPED))
def test_every_example_of_a_simple_pattern_matches(pattern: str) -> None:
    """There is at least one example, and each matches as a whole."""
    found = list(examples(pattern))

    assert found
    assert [text for text in found if re2.fullmatch(pattern, text) is None] == []


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        (".*", {"x", ""}),
        ("(?i)(0|false|no|off)?", {"0", "false", "no", "off", ""}),
        ("a|b", {"a", "b"}),
        ("(?:x-)?y", {"x-y", "y"}),
        (r"(\b|\\[nrt])sk-", {"sk-", r"\nsk-"}),
    ],
)
def test_alternatives_and_what_is_optional_are_tried(pattern: str, wanted: set[str]) -> None:
    """Each alternative comes up, and what is optional both with and without."""
    assert set(examples(pattern)) == wanted


@pytest.mark.parametrize("pattern", ["(", "a)", "[a", "*a", r"\p{Greek}", "a{9999}", "(?<=a)b", "a\\"])
def test_what_is_too_hard_gives_nothing(pattern: str) -> None:
    """No example, and no exception."""
    assert list(examples(pattern)) == []


@pytest.mark.parametrize(
    "pattern",
    [
        "-----BEGIN [A-Z ]*PRIVATE KEY",
        "A[KS]IA[0-9A-Z]{16}",
        "gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22}",
        r"(\b|\\[nrt])sk-[A-Za-z0-9_-]{20}",
        r"(?i)\bproject\s+(?P<name>blue|red)\b",
    ],
)
def test_patterns_as_people_write_them_are_simple_enough(pattern: str) -> None:
    """What is searched for is found in an example."""
    assert any(re2.search(pattern, text) for text in examples(pattern))
