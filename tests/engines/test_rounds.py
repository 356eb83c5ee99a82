"""Whose step is next: nobody starves, nobody waits behind another's long tasks."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.engines.rounds import Rounds

PRINCIPALS = ("ann", "bob", "cy", "di")
# (principal, steps that it takes, when it comes)
TASKS = st.lists(
    st.tuples(st.sampled_from(PRINCIPALS), st.integers(1, 6), st.integers(0, 30)), min_size=1, max_size=14
)


class Played:
    """Tasks taken through their steps."""

    def __init__(self, together: int, tasks: list[tuple[str, int, int]]) -> None:
        self.rounds = Rounds(together)
        self.left = [count for _, count, _ in tasks]
        self.whose = [principal for principal, _, _ in tasks]
        self.comes = [when_count for _, _, when_count in tasks]
        self.taken: list[int] = []

    def admit(self, now_count: int) -> None:
        for number, when_count in enumerate(self.comes):
            if when_count == now_count:
                self.rounds.add(number, self.whose[number])

    def step(self) -> int:
        number = self.rounds.take()
        self.taken.append(number)
        self.left[number] -= 1
        if not self.left[number]:
            self.rounds.drop(number)
        return number


@given(st.integers(1, 5), TASKS)
def test_every_step_is_taken_once_and_every_task_ends(
    together: int, tasks: list[tuple[str, int, int]]
) -> None:
    """Whatever comes when: nothing is left behind, and nothing goes on after its end."""
    played = Played(together, tasks)
    for now_count in range(31):
        played.admit(now_count)
        if played.rounds:
            played.step()
    while played.rounds:
        played.step()

    assert Counter(played.taken) == Counter({number: count for number, (_, count, _) in enumerate(tasks)})


@given(st.integers(1, 5), TASKS, st.data())
def test_few_are_under_way_and_each_goes_on(
    together: int, tasks: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    """At most `together`, and one more for whoever has none; whoever has begun is soon taken again, also
    when others are dropped."""
    played = Played(together, tasks)
    most = together + (together > 1)
    last: dict[int, int] = {}
    played.admit(0)
    for now_count in range(1, 120):
        if played.rounds:
            number = played.step()
            assert now_count - last.get(number, now_count) <= most * most
            last[number] = now_count
            under_way = played.rounds.under_way
            assert len(under_way) <= most
            assert max(Counter(played.whose[one] for one in under_way).values(), default=0) <= together
            if under_way and data.draw(st.integers(0, 5)) == 0:
                dropped = data.draw(st.sampled_from(sorted(under_way)))
                played.rounds.drop(dropped)
                assert played.rounds.under_way == under_way - {dropped}
        played.admit(now_count)


@given(st.integers(2, 5), st.integers(1, 20), st.integers(0, 40), st.integers(1, 5))
def test_nobody_waits_behind_anothers_long_tasks(
    together: int, others_count: int, before_count: int, length: int
) -> None:
    """However many endless tasks one principal has: another's is begun at once, and gets every other step."""
    rounds = Rounds(together)
    for number in range(others_count):
        rounds.add(number, "ann")
    for _ in range(before_count):
        rounds.take()

    rounds.add(99, "bob")
    taken = [rounds.take() for _ in range(2 * length)]

    assert taken.count(99) == length


def test_a_place_is_given_in_turn() -> None:
    """First come, first served within a principal; among principals, who has fewest under way."""
    rounds = Rounds(2)
    for number, principal in enumerate(["ann", "ann", "ann", "bob", "cy", "cy"]):
        rounds.add(number, principal)

    begun = []
    while rounds:
        rounds.take()
        begun.append(sorted(rounds.under_way))
        rounds.drop(begun[-1][0])

    assert begun == [[0, 3, 4], [1, 3, 4], [2, 3, 4], [3, 4], [4, 5], [5]]


def test_dropping_what_is_unknown_or_waits_is_fine() -> None:
    """It leaves the others as they are."""
    rounds = Rounds(1)
    rounds.add(1, "ann")
    rounds.add(2, "ann")
    rounds.add(3, "bob")
    rounds.drop(9)
    rounds.drop(2)
    assert rounds.take() == 1
    rounds.drop(1)
    assert rounds.take() == 3
    rounds.drop(3)
    assert not rounds
