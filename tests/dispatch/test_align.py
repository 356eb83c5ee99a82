"""Replay and align: what a client has is swallowed, what is new is passed, what differs told or spliced."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.core.event import Batch, Event, Finish, Reasoning, Text, ToolFragment, Usage
from hybrid_router.dispatch.align import Aligner, Diverged

END: Batch = [Finish("stop"), Usage(prompt_tokens=1, completion_tokens=2)]
PROSE = st.text(alphabet="ab .!?。」\n\"'ü😀", max_size=60)


def batches_of(text: str, cuts: Iterable[int], per_batch: int = 1) -> list[Batch]:
    """`text` in pieces, some of them together, and the end of an answer."""
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    pieces: Batch = [Text(text[a:b]) for a, b in pairwise(places)]
    pieces += END
    return [pieces[at : at + per_batch] for at in range(0, len(pieces), per_batch)]


def fed(aligner: Aligner, batches: Iterable[Batch]) -> list[Event]:
    """All that is new."""
    return [event for batch in batches for event in aligner.feed(batch)]


def told(aligner: Aligner, batches: Iterable[Batch]) -> tuple[list[Event], int | None]:
    """All that is new, and where the replay was given up."""
    passed: list[Event] = []
    try:
        for batch in batches:
            passed += aligner.feed(batch)
    except Diverged as diverged:
        return passed, diverged.at_char
    return passed, None


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


SPLITS = st.lists(st.integers(0, 60), max_size=12)


@given(PROSE, SPLITS, st.integers(0, 60), st.integers(1, 4), st.sampled_from(["error", "splice"]))
def test_an_equal_replay_gives_exactly_what_is_missing(
    whole: str, cuts: list[int], at: int, per_batch: int, on_divergence: str
) -> None:
    """However it is cut and whatever was shown: not one character twice, not one missing, nothing empty."""
    shown = whole[:at]
    aligner = Aligner(shown, "splice" if on_divergence == "splice" else "error")

    passed = fed(aligner, batches_of(whole, cuts, per_batch))

    assert shown + text_of(passed) == whole
    assert [event for event in passed if not isinstance(event, Text)] == END
    assert all(event.text for event in passed if isinstance(event, Text))
    assert aligner.diverged_at_char is None
    assert aligner.seam_char == (len(shown) if len(shown) < len(whole) else None)


def first_difference(shown: str, replay: str) -> int | None:
    """The first character of `shown` that `replay` has not."""
    for at, char in enumerate(shown):
        if replay[at : at + 1] != char:
            return at
    return None


@given(PROSE, PROSE, SPLITS, st.integers(1, 4))
def test_a_difference_is_an_error_at_its_character(
    shown: str, replay: str, cuts: list[int], per_batch: int
) -> None:
    """Where a replay differs, or ends too soon, it is refused there, and nothing of it was passed."""
    aligner = Aligner(shown, "error")
    at = first_difference(shown, replay)

    passed, refused_at = told(aligner, batches_of(replay, cuts, per_batch))

    assert refused_at == aligner.diverged_at_char == at
    if at is None:
        assert shown + text_of(passed) == replay
    else:
        assert passed == []
        assert aligner.seam_char is None


@given(PROSE, PROSE, SPLITS, st.integers(1, 4))
def test_a_splice_begins_where_a_sentence_does(
    shown: str, replay: str, cuts: list[int], per_batch: int
) -> None:
    """The client's text is what it had and the replay from a border on, the same one however it is cut."""
    aligner, whole = Aligner(shown, "splice"), Aligner(shown, "splice")
    at = first_difference(shown, replay)

    passed, refused_at = told(aligner, batches_of(replay, cuts, per_batch))
    told(whole, [[Text(replay)], END] if replay else [END])

    seam = aligner.seam_char
    assert seam == whole.seam_char
    assert aligner.diverged_at_char == at
    if refused_at is not None:
        assert refused_at == at
        assert seam is None
        assert passed == []
    elif seam is not None and at is not None:
        assert seam >= len(shown)
        assert text_of(passed) == replay[seam:]
        assert replay[seam:].strip() != ""
        before, after = replay[:seam].rstrip("\"'」"), replay[seam:]
        assert before[-1:] in ".!?。" or after.lstrip(" ")[:1] == "\n"


SPLICES = {
    "next sentence": ("The cat sa", "A dog came in. It sat down.", "The cat sa It sat down."),
    "border right there": ("The ca", "A dog. It sat.", "The ca It sat."),
    "border long before": ("The cat sat on", "A. B c d e f g h! I.", "The cat sat on I."),
    "several marks": ("What", "Well?! Yes.", "What Yes."),
    "quoted": ("He sai", '"Go away." He left.', "He sai He left."),
    "no sentence inside a number": ("It is", "Pi is 3.14 or so. Fine.", "It is Fine."),
    "paragraphs": ("# Tit", "Heading\n\nBody", "# Tit\n\nBody"),
    "Windows lines": ("# Tit", "Heading\r\nBody", "# Tit\r\nBody"),
    "Chinese": ("我们", "他们来了。然后走了。", "我们然后走了。"),
    "Chinese quotation": ("他说", "她说：「来。」然后走了。", "他说然后走了。"),
    "Spanish": ("Sí", "No, gracias… ¿Y tú?", "Sí ¿Y tú?"),
}


@pytest.mark.parametrize(("shown", "replay", "whole"), SPLICES.values(), ids=SPLICES.keys())
@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_a_splice_reads_well(shown: str, replay: str, whole: str, size: int) -> None:
    """What was begun stays, the sentence the replay is in is left out, the next one follows."""
    aligner = Aligner(shown, "splice")
    pieces: list[Batch] = [[Text(replay[at : at + size])] for at in range(0, len(replay), size)]

    assert shown + text_of(fed(aligner, [*pieces, END])) == whole


@pytest.mark.parametrize("replay", ["A dog.", "A dog sat down", "A dog sat down. \n", "Short"])
def test_a_replay_without_another_sentence_is_no_answer(replay: str) -> None:
    """What was cut off in the middle is not called whole."""
    with pytest.raises(Diverged) as refused:
        fed(Aligner("The cat", "splice"), [[Text(replay)], END])

    assert refused.value.at_char == 0


@pytest.mark.parametrize("on_divergence", ["error", "splice"])
def test_a_replay_that_calls_a_tool_instead_is_another_answer(on_divergence: str) -> None:
    """Text that is out cannot be followed by a call that was made in its place."""
    aligner = Aligner("Hello", "splice" if on_divergence == "splice" else "error")

    with pytest.raises(Diverged) as refused:
        fed(aligner, [[Text("Hel"), ToolFragment(0, id="1", name="f")]])

    assert refused.value.at_char == 3


def test_a_tool_call_after_the_same_text_is_what_was_missing() -> None:
    """The answer broke off between its text and its call."""
    call = ToolFragment(0, id="1", name="f")

    assert fed(Aligner("Hello", "error"), [[Text("Hel"), Text("lo"), call]]) == [call]


def test_other_events_pass_at_any_time() -> None:
    """Reasoning and usage say nothing about the text."""
    thought, usage = Reasoning("hm"), Usage(prompt_tokens=1, completion_tokens=1)

    assert fed(Aligner("ab", "error"), [[thought, Text("a"), usage, Text("bc")]]) == [
        thought,
        usage,
        Text("c"),
    ]


def test_a_border_that_never_comes_is_not_looked_for_twice() -> None:
    """Of a long answer without any, only what the next characters may make one of is kept."""
    aligner = Aligner("x" * 10, "splice")

    for _ in range(1000):
        assert aligner.feed([Text("a word, ")]) == []

    assert len(aligner._unplaced) < 10
