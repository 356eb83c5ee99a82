"""Pictures that wait to be fetched: whose they are, how long, and how many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.api.gallery import LIFETIME_S, Gallery

PNG = b"\x89PNG" + b"." * 6


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_picture_is_its_owners() -> None:
    """Nobody else finds it, by an id that is right."""
    gallery = Gallery()
    name = gallery.add(PNG, "alice")

    found = gallery.find(name, "alice")
    assert found is not None
    assert (found.content, found.media_type) == (PNG, "image/png")
    assert gallery.find(name, "bob") is None
    assert gallery.find(name + "0", "alice") is None


def test_ids_cannot_be_guessed_from_others() -> None:
    """Two ids of one moment have nothing in common but their prefix, which says what they are."""
    gallery = Gallery()
    first, second = (gallery.add(PNG, "alice").removeprefix("img-") for _ in range(2))

    assert len(first) == len(second) == 32
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 16


def test_a_picture_is_there_for_its_time() -> None:
    """To the second before its end, and not at it."""
    clock = Clock()
    gallery = Gallery(clock=clock)
    name = gallery.add(PNG, "alice")

    clock.now_s += LIFETIME_S - 1
    assert gallery.find(name, "alice") is not None
    clock.now_s += 1
    assert gallery.find(name, "alice") is None


def test_old_pictures_take_no_memory() -> None:
    """What is over is forgotten by a sweep, whether anybody asks for it or not."""
    clock = Clock()
    gallery = Gallery(clock=clock)
    for principal in ("alice", "bob"):
        gallery.add(PNG, principal)
    clock.now_s += LIFETIME_S

    gallery.sweep()

    assert not gallery._exhibits
    assert not gallery._taken_bytes


def test_who_has_most_makes_room() -> None:
    """One principal's many pictures do not push out another's few."""
    gallery = Gallery(most_bytes=len(PNG) * 4)
    few = gallery.add(PNG, "alice")
    many = [gallery.add(PNG, "bob") for _ in range(9)]

    assert gallery.find(few, "alice") is not None
    assert [gallery.find(name, "bob") is not None for name in many] == [False] * 6 + [True] * 3


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 50), st.integers(0, 2000)), max_size=30))
def test_it_never_holds_more_than_it_may(added: list[tuple[str, int, int]]) -> None:
    """Whatever comes when and from whom: the newest is there, the bytes are bounded and counted rightly."""
    clock = Clock()
    gallery = Gallery(most_bytes=100, clock=clock)
    for principal, size_bytes, passed_s in added:
        clock.now_s += passed_s
        name = gallery.add(b"." * size_bytes, principal)

        assert gallery.find(name, principal) is not None
        held = [len(exhibit.content) for exhibit in gallery._exhibits.values()]
        assert sum(held) == gallery._taken_bytes.total() <= 100
