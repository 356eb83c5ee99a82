"""What several parts of an answer cost together."""

from __future__ import annotations

from hybrid_router.backends.tally import parted, total
from hybrid_router.core.event import Text, Usage


def test_everything_that_clouds_count_is_added_up() -> None:
    """Tokens, neurons and seconds of sound; one part that tells nothing leaves the whole unknown."""
    told = [Usage(1, 2, 3, neurons=0.5, sound_s=1.5), Usage(10, 20, 30, neurons=0.25, sound_s=2.0)]

    assert total(told) == Usage(11, 22, 33, neurons=0.75, sound_s=3.5)
    assert total([*told, None]) is None
    assert total([]) is None


def test_usage_is_taken_out_of_a_batch() -> None:
    """The rest stays in its order."""
    assert parted([Text("a"), Usage(1, 2), Text("b")]) == ([Text("a"), Text("b")], Usage(1, 2))
    assert parted([Text("a")]) == ([Text("a")], None)
