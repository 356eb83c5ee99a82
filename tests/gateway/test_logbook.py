"""What a gateway noted: lists, filters, and who may see it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.core.errors import CallRefused
from hybrid_router.gateway.log_filter import Filter, filters
from hybrid_router.gateway.logbook import Entry, Logbook, Patch, Wanted, patch, ulid, wanted


def entry(number: int, principal: str = "me", **told: Any) -> Entry:
    """A try, the so-manieth."""
    usual = {
        "created_at": f"2026-11-20T10:00:{number:02d}Z",
        "provider": "openai",
        "path": "chat/completions",
    }
    return Entry(id=ulid(number, bytes([number] * 10)), principal=principal, **(usual | told))


@pytest.fixture
def log() -> Logbook:
    """Nine tries of mine and one of somebody else's."""
    log = Logbook()
    for number in range(9):
        metadata = {"team": "a"} if number % 2 else {}
        log.add(
            entry(number, model=f"m{number % 3}", tokens_in=number, success=number != 4, metadata=metadata)
        )
    log.add(entry(9, "you", model="m1"))
    return log


def listed(log: Logbook, *conditions: tuple[str, str, Any]) -> list[int]:
    """The numbers of my entries that are meant, the newest first."""
    chosen = tuple(Filter(key=key, operator=how, value=[what]) for key, how, what in conditions)  # type: ignore[arg-type]
    return [one.tokens_in for one in log.listing("me", Wanted(filters=chosen))[0]]


def test_ids_sort_by_time_and_are_not_guessed() -> None:
    """26 characters of Crockford's alphabet; the first ten are the time."""
    assert ulid(1.0, bytes(10)) < ulid(1.001, bytes(10)) < ulid(2e9, bytes(10))
    assert len(ulid(1.7e9, b"\xff" * 10)) == 26
    assert ulid(0, b"\xff" * 10)[:10] == "0" * 10


@pytest.mark.parametrize(
    ("condition", "numbers"),
    [
        (("model", "eq", "m1"), [7, 4, 1]),
        (("model", "neq", "m1"), [8, 6, 5, 3, 2, 0]),
        (("model", "contains", "M2"), [8, 5, 2]),
        (("tokens_in", "gt", "6"), [8, 7]),
        (("tokens", "lt", 2), [1, 0]),
        (("success", "eq", "false"), [4]),
        (("metadata.key", "eq", "team"), [7, 5, 3, 1]),
        (("metadata.value", "eq", "b"), []),
        (("created_at", "lt", "2026-11-20T10:00:02Z"), [1, 0]),
    ],
)
def test_filters_choose(log: Logbook, condition: tuple[str, str, Any], numbers: list[int]) -> None:
    """By text, number, flag, time and metadata, written as an address writes them."""
    assert listed(log, condition) == numbers


def test_all_filters_hold(log: Logbook) -> None:
    """One after the other."""
    assert listed(log, ("model", "eq", "m1"), ("tokens_in", "gt", 2), ("success", "eq", True)) == [7]


def test_pages_are_told(log: Logbook) -> None:
    """The bounds are of all that is meant, not of the page alone."""
    page, told = log.listing("me", Wanted(page=2, per_page=4))

    assert [one.tokens_in for one in page] == [4, 3, 2, 1]
    assert (told["count"], told["total_count"], told["page"]) == (4, 9, 2)
    assert (told["min_tokens_in"], told["max_tokens_in"]) == (0, 8)


def test_nobody_sees_anothers_entries(log: Logbook) -> None:
    """Neither in a list nor by its id, nor may it be changed or removed."""
    theirs = log.listing("you", Wanted())[0][0].id

    assert log.find(theirs, "me") is None
    assert log.patch(theirs, "me", Patch(feedback=1)) is None
    assert log.remove("me", (), 99) == 9
    assert log.find(theirs, "you") is not None


def test_feedback_is_noted_and_taken_back(log: Logbook) -> None:
    """What is not said stays; null takes back."""
    name = log.listing("me", Wanted())[0][0].id
    log.patch(name, "me", Patch(feedback=-1, score=7))
    log.patch(name, "me", Patch(feedback=None))
    found = log.find(name, "me")

    assert found is not None
    assert (found.feedback, found.score) == (None, 7)


@given(st.lists(st.integers(0, 30), max_size=40))
def test_the_book_is_bounded(numbers: list[int]) -> None:
    """The newest are kept."""
    log = Logbook(most_count=3)
    for number in numbers:
        log.add(entry(number))

    assert len(log.listing("me", Wanted())[0]) <= 3


@pytest.mark.parametrize(
    "query",
    [
        [("filters", json.dumps([{"key": "model", "operator": "eq", "value": ["m"]}]))],
        [("filters", json.dumps({"key": "model", "operator": "eq", "value": "m"}))],
        [("filters.key", "model"), ("filters.operator", "eq"), ("filters.value", "m")],
        [("filters[key]", "model"), ("filters[operator]", "eq"), ("filters[value]", "m")],
        [("filters[0][key]", "model"), ("filters[0][operator]", "eq"), ("filters[0][value][]", "m")],
    ],
)
def test_filters_come_in_several_spellings(query: list[tuple[str, str]]) -> None:
    """As JSON, and as each official package writes them."""
    assert filters(query) == (Filter(key="model", operator="eq", value=["m"]),)


def test_several_filters_are_joined_by_their_order() -> None:
    """The first key has the first operator and the first value."""
    query = [
        *[("filters.key", "model"), ("filters.key", "tokens_in")],
        *[("filters.operator", "eq"), ("filters.operator", "gt")],
        *[("filters.value", "m"), ("filters.value", "3")],
    ]

    assert [one.key for one in filters(query)] == ["model", "tokens_in"]
    assert filters(query)[1].value == ["3"]


@pytest.mark.parametrize(
    "query",
    [
        [("filters", "{")],
        [("filters", '{"key": "secret", "operator": "eq", "value": []}')],
        [("filters.key", "model")],
        [("filters", json.dumps({"key": "model", "operator": "neq", "value": [1] * 101}))],
    ],
)
def test_what_is_no_filter_is_refused(query: list[tuple[str, str]]) -> None:
    """Rather than showing what nobody asked for."""
    with pytest.raises(CallRefused):
        filters(query)


def test_a_number_of_any_length_is_read() -> None:
    """In the address and in a filter: it is a large one, and nothing is lost by it."""
    assert wanted({"page": "9" * 5000, "per_page": "0" * 5000 + "7"}, ()).page == 10**6
    (huge,) = filters([("filters", '{"key": "cost", "operator": "lt", "value": ' + "9" * 400 + "}")])
    assert len(list(huge.among([entry(1), entry(2, cost=9.5)]))) == 2


def test_what_callers_write_is_bounded() -> None:
    """However it came into the book: the oldest entries go; what is removed counts no more."""
    log = Logbook(most_told_bytes=100)
    for number in range(5):
        log.add(entry(number, tokens_in=number, metadata={"a": "x" * 32}))
    assert listed(log) == [4, 3]
    name = log.listing("me", Wanted())[0][0].id
    log.patch(name, "me", patch(b'{"metadata": {"a": "%s"}}' % (b"x" * 80)))
    log.add(entry(5, tokens_in=5))
    assert listed(log) == [5, 4]
    log.remove("me", (), 9)
    log.add(entry(6, tokens_in=6, metadata={"a": "x" * 80}))
    assert listed(log) == [6]


def test_a_patch_of_something_else_is_refused_by_name() -> None:
    """What would be passed over is told."""
    with pytest.raises(CallRefused, match="`nope`"):
        patch(b'{"score": 1, "nope": 7}')


def test_a_patch_is_as_short_as_a_header() -> None:
    """Of metadata the first five, without reserved names; what is no patch is refused."""
    many = {"cf.own": 1} | {f"k{number}": number for number in range(9)}
    assert patch(json.dumps({"metadata": many}).encode()).metadata == {f"k{n}": n for n in range(5)}
    for body in (b"{", b"[]", b'{"feedback": 2}', b'{"metadata": {"a": []}}'):
        with pytest.raises(CallRefused):
            patch(body)


@pytest.mark.parametrize("query", [{"page": "0"}, {"per_page": "x"}, {"order_by": "principal"}])
def test_what_is_no_page_is_refused(query: dict[str, str]) -> None:
    """By name."""
    with pytest.raises(CallRefused) as refused:
        wanted(query, ())

    assert refused.value.param in query
