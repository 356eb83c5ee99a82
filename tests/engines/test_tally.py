"""The tally of tasks whose texts are computed among others'."""

from __future__ import annotations

from hybrid_router.core.event import Finish, Relevance, Usage
from hybrid_router.engines.tally import Tally
from hybrid_router.engines.task import Output


def test_a_task_ends_with_its_last_text_and_no_other_does() -> None:
    """Texts of two tasks come together: each text has its finish, usage comes once and last."""
    tally = Tally()
    for task_id, texts_count, tokens_count in ((1, 1, 7), (2, 2, 11)):
        tally.open(task_id, texts_count)
        tally.read(task_id, tokens_count)
    tally.compute([1, 2])
    first, second = tally.answers([(2, Relevance(0.5, 1)), (1, Relevance(0.25, 0))])

    assert first == Output(id=2, events=[Relevance(0.5, 1), Finish("stop", 1)])
    assert isinstance(second, Output)
    assert second.last
    *shown, usage = second.events
    assert shown == [Relevance(0.25, 0), Finish("stop", 0)]
    assert isinstance(usage, Usage)
    assert usage.prompt_tokens == 7
    assert tally
    (third,) = tally.answers([(2, Relevance(0.75, 0))])
    assert isinstance(third, Output)
    assert third.last
    assert not tally


def test_the_queue_ends_where_computing_begins() -> None:
    """A task of which nothing was computed waited all the time; one that was, until then."""
    tally = Tally()
    for task_id in (1, 2):
        tally.open(task_id, 1)
    tally.compute([1])
    waited = [
        (usage.queue_s, usage.prefill_s)
        for answer in tally.answers([(1, Relevance(0.5)), (2, Relevance(0.5))])
        if isinstance(answer, Output) and isinstance(usage := answer.events[-1], Usage)
    ]

    (_, computed_s), (queue_s, not_computed_s) = waited
    assert computed_s
    assert queue_s
    assert not_computed_s == 0.0


def test_a_dropped_task_was_there_once() -> None:
    """Forgetting says whether there was something to forget."""
    tally = Tally()
    tally.open(1, 1)

    assert tally.drop(1)
    assert not tally.drop(1)
    assert not tally
