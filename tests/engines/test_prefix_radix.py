"""The index over prefixes, against a dictionary of lists."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hybrid_router.engines.llama.prefix.radix import Radix

# Few different tokens, so that sequences share beginnings; among them both ends of 32 bits.
tokens_lists = st.lists(st.sampled_from([0, 1, -1, 2**31 - 1, -(2**31)]), max_size=8)


def common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many leading tokens are the same."""
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count


def cells(held: dict[int, list[int]]) -> int:
    """Distinct non-empty prefixes."""
    return len({tuple(tokens[:end]) for tokens in held.values() for end in range(1, len(tokens) + 1)})


class Against(RuleBasedStateMachine):
    """Whatever is put in, extended and taken out: the tree says what a dictionary of lists says."""

    def __init__(self) -> None:
        super().__init__()
        self.radix: Radix[int] = Radix()
        self.naive: dict[int, list[int]] = {}
        self.key = 0

    @rule(tokens=tokens_lists)
    def insert(self, tokens: list[int]) -> None:
        """A new key."""
        self.radix.insert(self.key, tokens)
        self.naive[self.key] = tokens
        self.key += 1

    @precondition(lambda self: self.naive)
    @rule(drawn=st.data(), more=tokens_lists)
    def extend(self, drawn: st.DataObject, more: list[int]) -> None:
        """More tokens for a key that is held."""
        key = drawn.draw(st.sampled_from(sorted(self.naive)))
        self.radix.extend(key, more)
        self.naive[key] = self.naive[key] + more

    @precondition(lambda self: self.naive)
    @rule(drawn=st.data())
    def remove(self, drawn: st.DataObject) -> None:
        """A key leaves."""
        key = drawn.draw(st.sampled_from(sorted(self.naive)))
        self.radix.remove(key)
        del self.naive[key]

    @rule(prompt=tokens_lists)
    def matches(self, prompt: list[int]) -> None:
        """Every key with a common token, once, with the right count, the most first."""
        found = list(self.radix.matches(prompt))
        counts = [count for count, _ in found]

        assert counts == sorted(counts, reverse=True)
        assert sorted((key, count) for count, key in found) == sorted(
            (key, common(prompt, tokens)) for key, tokens in self.naive.items() if common(prompt, tokens)
        )
        assert self.radix.longest(prompt) == (found[0] if found else None)

    @rule(prompt=tokens_lists)
    def wholes(self, prompt: list[int]) -> None:
        """Every key that the prompt begins with, whole, the longest first."""
        found = list(self.radix.wholes(prompt))
        counts = [count for count, _ in found]

        assert counts == sorted(counts, reverse=True)
        assert sorted((key, count) for count, key in found) == sorted(
            (key, len(tokens))
            for key, tokens in self.naive.items()
            if tokens and prompt[: len(tokens)] == tokens
        )

    @invariant()
    def same(self) -> None:
        """Keys, lengths, tokens and the count of cells."""
        assert len(self.radix) == len(self.naive)
        assert all(key in self.radix for key in self.naive)
        assert {key: self.radix.length(key) for key in self.naive} == {
            key: len(tokens) for key, tokens in self.naive.items()
        }
        assert {key: self.radix.tokens(key).tolist() for key in self.naive} == self.naive
        assert self.radix.count == cells(self.naive)


TestAgainst = Against.TestCase
TestAgainst.settings = settings(max_examples=60, stateful_step_count=40)


@given(st.integers(1, 3000), st.integers(0, 3000), st.integers(0, 100))
def test_a_long_common_run_is_measured_to_the_token(length: int, cut: int, more: int) -> None:
    """Two sequences that part at any place have that many tokens in common."""
    cut = min(cut, length - 1)
    held = list(range(1, length + 1))
    prompt = [*held[:cut], -7, *range(more)]
    radix: Radix[str] = Radix()
    radix.insert("held", held)

    assert radix.longest(prompt) == ((cut, "held") if cut else None)
    assert radix.longest(held[:cut]) == ((cut, "held") if cut else None)


def test_a_key_is_held_once() -> None:
    """A key that is held cannot be inserted again, and what is held stays as it was."""
    radix: Radix[str] = Radix()
    radix.insert("one", [1, 2])

    with pytest.raises(ValueError, match="'one' is in the index"):
        radix.insert("one", [3])
    assert radix.tokens("one").tolist() == [1, 2]


def test_an_empty_index_holds_nothing() -> None:
    """When the last key has left, no token is held and nothing is found."""
    radix: Radix[str] = Radix()
    radix.insert("one", [1, 2, 3])
    radix.insert("two", [1, 2, 4])
    radix.remove("one")
    radix.remove("two")

    assert radix.count == 0
    assert radix.longest([1, 2, 3]) is None
    with pytest.raises(KeyError):
        radix.remove("one")


def test_matches_can_be_read_one_by_one() -> None:
    """The best match comes first; the others are there for whoever cannot use it."""
    radix: Radix[int] = Radix()
    for key in range(50):
        radix.insert(key, [1, 2, 3, key])
    matches = radix.matches(array("i", [1, 2, 3, 17, 5]))

    assert next(matches) == (4, 17)
    assert {count for count, _ in matches} == {3}


def test_a_token_beyond_32_bits_is_refused() -> None:
    """What cannot be a token is an error and changes nothing."""
    radix: Radix[str] = Radix()

    with pytest.raises(OverflowError):
        radix.insert("one", [1, 2**31])
    assert len(radix) == 0
