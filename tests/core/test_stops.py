"""Stop strings across any border."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.core.stops import StopFilter

ALPHABET = st.text("ab\n", max_size=30)
STOPS = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3).map(tuple)


def cut(text: str, stops: tuple[str, ...]) -> str:
    """What must be shown of `text`: everything before the stop string that is whole first."""
    for end in range(1, len(text) + 1):
        whole = [stop for stop in stops if text[:end].endswith(stop)]
        if whole:
            return text[: end - max(map(len, whole))]
    return text


@given(st.lists(ALPHABET, max_size=8), STOPS)
def test_any_split_shows_the_same_text(pieces: list[str], stops: tuple[str, ...]) -> None:
    """However the text arrives, exactly the part before the first stop string is shown."""
    stop_filter, shown, stopped = StopFilter(stops), "", False
    arrived = ""
    for piece in pieces:
        arrived += piece
        part, stopped = stop_filter.feed(piece)
        shown += part
        if stopped:
            break
    if not stopped:
        shown += stop_filter.flush()

    assert shown == cut(arrived, stops)


@given(st.lists(ALPHABET, max_size=8), STOPS, st.integers(0, 40))
def test_a_stop_string_may_begin_in_what_is_out_already(
    pieces: list[str], stops: tuple[str, ...], at: int
) -> None:
    """Whoever goes on with an answer ends it where one filter would have, and shows only what is new."""
    text = "".join(pieces)
    whole, at = cut(text, stops), min(at, len(text))
    if cut(text[:at], stops) != text[:at]:
        return  # it had ended before

    stop_filter = StopFilter(stops, text[:at])
    shown, stopped = stop_filter.feed(text[at:])
    shown += "" if stopped else stop_filter.flush()

    assert shown == whole[at:]
    assert stopped == (whole != text)


def test_of_nested_stop_strings_the_one_that_is_whole_first_counts() -> None:
    """Whether `abc` arrives at once or in pieces."""
    whole, pieces = StopFilter(("abc", "b")), StopFilter(("abc", "b"))

    assert whole.feed("abc") == ("a", True)
    assert pieces.feed("ab") == ("a", True)


@given(ALPHABET)
def test_without_stop_strings_nothing_is_held_back(text: str) -> None:
    """The usual case costs nothing and delays nothing."""
    assert StopFilter(()).feed(text) == (text, False)


def test_only_what_may_become_a_stop_string_waits() -> None:
    """A delta is delayed no longer than it must be."""
    stop_filter = StopFilter(("STOP",))

    assert stop_filter.feed("go ST") == ("go ", False)
    assert stop_filter.feed("ART") == ("START", False)
    assert stop_filter.feed("STO") == ("", False)
    assert stop_filter.feed("P now") == ("", True)
