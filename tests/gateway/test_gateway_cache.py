"""Answers that a gateway keeps, and calls that it counts."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.gateway.cache import Cache, Kept, key
from hybrid_router.gateway.rate import Rate

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)
PARTS = st.tuples(
    st.sampled_from(["a", "b", 'a","b']),
    st.sampled_from(["openai", "workers-ai"]),
    st.sampled_from(["x", "y"]),
    JSON,
    st.none() | st.sampled_from(["k", "x"]),
)


def answer(principal: str = "a", size_bytes: int = 1, until_s: float = 100.0) -> Kept:
    """An answer of `principal`."""
    return Kept(
        principal=principal, content=principal.encode() * size_bytes, media_type="text/plain", until_s=until_s
    )


@given(PARTS, PARTS)
def test_an_answer_is_found_only_by_the_same_question_of_the_same_principal(
    one: tuple[str, str, str, Any, str | None], other: tuple[str, str, str, Any, str | None]
) -> None:
    """Principal and provider always count; then the question, or the caller's own word for it."""

    def asked(parts: tuple[str, str, str, Any, str | None]) -> Any:
        principal, provider, endpoint, query, custom = parts
        return (principal, provider, repr((endpoint, query)) if custom is None else ("named", custom))

    if asked(one) == asked(other):
        assert key(*one) == key(*other)
    if one[:2] != other[:2]:
        assert key(*one) != key(*other)
    if one[4] is None and other[4] is None and one[3] != other[3]:
        assert key(*one) != key(*other)


def test_the_order_of_properties_does_not_matter() -> None:
    """It is the same question."""
    assert key("a", "p", "e", {"x": 1, "y": {"b": 2, "a": 3}}) == key(
        "a", "p", "e", {"y": {"a": 3, "b": 2}, "x": 1}
    )


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 8)), max_size=40))
def test_the_cache_is_bounded_and_never_crosses_principals(puts: list[tuple[str, int, int]]) -> None:
    """Whatever is put: at most so many bytes are held, and what is found is what its owner put last."""
    cache, last = Cache(most_bytes=20, most_answer_bytes=6), dict[bytes, Kept]()
    for principal, number, size_bytes in puts:
        name = key(principal, "p", "e", number)
        kept = answer(principal, size_bytes)
        assert cache.put(name, kept) == (size_bytes <= 6)
        if size_bytes <= 6:
            last[name] = kept
        assert cache.taken_bytes <= 20
    for name, kept in last.items():
        found = cache.find(name, 0.0)
        assert found is None or found is kept


def test_an_answer_is_forgotten_in_time() -> None:
    """At its last moment it is gone already."""
    cache = Cache()
    cache.put(b"n", answer(until_s=10.0))

    assert cache.find(b"n", 9.9) is not None
    assert cache.find(b"n", 10.0) is None
    assert cache.taken_bytes == 0


def test_whoever_fills_the_cache_loses_their_own() -> None:
    """A principal with much in it cannot push out one with little."""
    cache = Cache(most_bytes=10)
    cache.put(b"mine", answer("a", 2))
    for number in range(9):
        cache.put(bytes([number]), answer("b", 2))

    assert cache.find(b"mine", 0.0) is not None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 2)), max_size=40))
def test_tiny_answers_are_bounded_by_their_number(puts: list[tuple[str, int, int]]) -> None:
    """What an answer takes beside its content would grow without end; whoever has most loses again."""
    cache = Cache(most_count=4)
    cache.put(b"mine", answer("me", 9))
    for principal, number, size_bytes in puts:
        assert cache.put(key(principal, "p", "e", number), answer(principal, size_bytes))
        assert len(cache) <= 4
    assert len(puts) > 3 or cache.find(b"mine", 0.0) is not None
    cache.sweep(100.0)

    assert (len(cache), cache.taken_bytes) == (0, 0)


def test_many_answers_of_one_push_out_none_of_another() -> None:
    """By number as by size."""
    cache = Cache(most_count=4)
    cache.put(b"mine", answer("a", 9))
    for number in range(9):
        cache.put(bytes([number]), answer("b", 0))

    assert cache.find(b"mine", 0.0) is not None
    assert len(cache) == 4


@given(st.integers(1, 5), st.sampled_from([1.0, 2.5]), st.lists(st.floats(0, 20), max_size=60).map(sorted))
def test_a_sliding_interval_never_has_one_too_many(
    most: int, interval_s: float, arrivals: list[float]
) -> None:
    """In every interval, wherever it begins; and a call that would fit is never turned away."""
    rate, taken = Rate(most, interval_s, "sliding"), list[float]()
    for now_s in arrivals:
        recent = sum(1 for one in taken if one > now_s - interval_s)
        assert rate.admit(now_s) == (recent < most)
        if recent < most:
            taken.append(now_s)


@given(st.integers(1, 5), st.lists(st.floats(0, 20), max_size=60).map(sorted))
def test_a_fixed_interval_is_the_clocks(most: int, arrivals: list[float]) -> None:
    """Each has its calls to the last one, and none more; a new interval begins at 0."""
    rate, taken = Rate(most, 2.0, "fixed"), list[float]()
    for now_s in arrivals:
        here = sum(1 for one in taken if one // 2.0 == now_s // 2.0)
        assert rate.admit(now_s) == (here < most)
        if here < most:
            taken.append(now_s)


@given(
    st.sampled_from(["fixed", "sliding"]),
    st.integers(1, 5),
    st.lists(st.integers(0, 40).map(lambda half: half / 2), max_size=60).map(sorted),
)
def test_who_is_turned_away_gets_in_when_told(
    technique: Literal["fixed", "sliding"], most: int, arrivals: list[float]
) -> None:
    """A call too many that comes again after the wait, and not before it, is let in."""
    rate = Rate(most, 2.0, technique)
    for now_s in arrivals:
        if rate.admit(now_s):
            continue
        wait_s, later = rate.wait_s(now_s), deepcopy(rate)
        assert 0 < wait_s <= 2.0
        assert not later.admit(now_s + wait_s - 0.25)
        assert later.admit(now_s + wait_s)
