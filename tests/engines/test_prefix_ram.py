"""States in memory: who may see them, who leaves first, what stands in for what."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.engines.llama.prefix.ram import States
from hybrid_router.engines.llama.prefix.spaces import Found

tokens_lists = st.lists(st.integers(0, 2), min_size=1, max_size=6)
puts = st.lists(st.tuples(st.sampled_from(["ann", "bob"]), tokens_lists, st.integers(0, 60), st.booleans()))


def put(states: States, tokens: list[int], state: bytes = b"state", *, space: str = "ann") -> int:
    """Put a state that may be saved and must fit."""
    key = states.put(space, tokens, state, private=False)
    assert key is not None
    return key


@given(puts, tokens_lists, st.booleans())
def test_memory_is_bounded_and_spaces_are_apart(
    sequence: list[tuple[str, list[int], int, bool]], prompt: list[int], whole_only: bool
) -> None:
    """Whatever is put in: the limit holds, what is found was put by the same principal and is told truly."""
    states = States(100, whole_only=whole_only)
    for space, tokens, size, private in sequence:
        states.put(space, tokens, bytes(size), private=private)

        assert states.held_bytes <= 100
    found = states.best("ann", prompt)
    if found is not None:
        got = states.take(found.key)
        assert got is not None
        tokens, state = got[0].tolist(), got[1]
        assert any(("ann", tokens, len(state)) == (space, held, size) for space, held, size, _ in sequence)
        assert tokens[: found.count] == prompt[: found.count]
        assert found.length == len(tokens)
        assert not whole_only or found.count == found.length
        assert found.key not in states


def test_another_space_finds_nothing() -> None:
    """A principal never profits from another's prompt."""
    states = States(1000)
    put(states, [1, 2, 3])

    assert states.best("bob", [1, 2, 3]) is None


def test_the_most_common_tokens_win_and_of_equals_the_shortest() -> None:
    """The state that saves most is found; the smaller one, if two save the same."""
    states = States(1000)
    put(states, [1, 2, 3, 4, 5, 6, 7])
    short = put(states, [1, 2, 3, 4, 9])
    put(states, [1, 2, 8])

    assert states.best("ann", [1, 2, 3, 4]) == Found(4, short, 5)


def test_who_was_not_used_for_longest_leaves_first() -> None:
    """Getting a state is using it."""
    states = States(3 * 104)
    first, second, third = (put(states, [number], bytes(100)) for number in range(3))
    states.get(first)
    put(states, [7], bytes(100))

    assert (first in states, second in states, third in states) == (True, False, True)


def test_a_state_larger_than_the_memory_throws_nobody_out() -> None:
    """What cannot fit is not kept, and costs nothing else its place."""
    states = States(200)
    key = put(states, [1], bytes(100))

    assert states.put("ann", [2], bytes(300), private=False) is None
    assert key in states


def test_a_longer_state_stands_in_for_its_beginning() -> None:
    """A prefix of what comes is dropped; what is a prefix of what is there is not kept twice."""
    states = States(1000)
    short = put(states, [1, 2])
    long = put(states, [1, 2, 3])

    assert short not in states
    assert put(states, [1, 2]) == long
    assert put(states, [1, 2, 3], b"again") == long
    assert len(states) == 1


def test_states_that_cannot_be_shortened_are_all_kept() -> None:
    """Where only whole states are of use, a prefix stays, and only whole ones are found."""
    states = States(1000, whole_only=True)
    short, long = put(states, [1, 2]), put(states, [1, 2, 3, 4])

    assert states.best("ann", [1, 2, 3]) == Found(2, short, 2)
    assert states.best("ann", [1, 2, 3, 4, 5]) == Found(4, long, 4)
    assert states.best("ann", [1, 5]) is None
    assert put(states, [1, 2]) == short


def test_a_private_state_does_not_stand_in_for_one_to_be_saved() -> None:
    """What may be written stays beside a longer one that may not; the other way round it need not."""
    states = States(1000)
    public = put(states, [1, 2])
    private = states.put("ann", [1, 2, 3], b"private", private=True)

    assert public in states
    assert private is not None
    longer = put(states, [1, 2, 3])
    assert longer != private
    assert private not in states
    assert states.put("ann", [1, 2, 3], b"private", private=True) == longer


def test_what_has_left_is_not_handed_out() -> None:
    """A key that is gone gives nothing, and dropping it again does no harm."""
    states = States(1000)
    key = put(states, [1, 2])

    assert states.take(key) is not None
    assert states.get(key) is None
    assert states.take(key) is None
    assert states.held_bytes == 0
    assert states.best("ann", [1, 2]) is None


def test_nothing_is_kept_of_no_tokens() -> None:
    """A state of an empty sequence could never be found."""
    assert States(1000).put("ann", [], b"state", private=False) is None
