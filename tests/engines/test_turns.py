"""Tasks in turns: whose step it is, what a cancellation frees, whom an error harms."""

from __future__ import annotations

from collections.abc import Generator
from itertools import takewhile

from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.core.asks import Speech
from hybrid_router.core.call import Operation
from hybrid_router.core.event import Batch, Finish, Sound, Usage
from hybrid_router.engines.task import Answer, Opened, Output, Refused, Task, TaskRefused
from hybrid_router.engines.turns import Turns


class Speller:
    """Says a text letter by letter.  `!` is refused in the middle, `?` at once, `#` is a bug of a library."""

    def __init__(self, parallel: int = 1) -> None:
        self._parallel = parallel
        self.closed: list[int] = []
        self.is_closed = False

    def opened(self) -> Opened:
        return Opened(description="speller", parallel=self._parallel)

    def take(self, task: Task) -> Generator[Batch, None, Usage | None]:
        text = str(task.prompts[0])
        if text.startswith("?"):
            raise TaskRefused("invalid_request_error", "no questions", by_call=True, param="input")
        return self._letters(task.id, text)

    def _letters(self, task_id: int, text: str) -> Generator[Batch, None, Usage | None]:
        try:
            for letter in text:
                if letter == "!":
                    raise TaskRefused("invalid_request_error", "no shouting", by_call=True)
                if letter == "#":
                    raise KeyError(letter)
                yield [] if letter == " " else [Sound(letter.encode())]
        finally:
            self.closed.append(task_id)
        return Usage(len(text), 0, sound_s=0.5)

    def close(self) -> None:
        self.is_closed = True


def task(number: int, text: str, principal: str = "local") -> Task:
    return Task(id=number, operation=Operation.SPEAK, prompts=(text,), ask=Speech(), principal=principal)


def said(engine: Turns, steps_count: int = 100) -> list[Answer]:
    """Everything that comes within so many steps."""
    answers: list[Answer] = []
    for _ in range(steps_count):
        if not engine.busy:
            break
        answers += engine.step()
    return answers


def test_an_answer_is_whole() -> None:
    """All batches in order, empty ones left out, then one finish and the usage with its times."""
    engine = Turns(Speller())
    assert engine.begin(task(1, "a b")) == []
    *letters, end = said(engine)

    assert letters == [Output(id=1, events=[Sound(b"a")]), Output(id=1, events=[Sound(b"b")])]
    assert isinstance(end, Output)
    assert end.last
    assert end.events[0] == Finish("stop", 0)
    usage = end.events[1]
    assert isinstance(usage, Usage)
    assert (usage.prompt_tokens, usage.sound_s) == (3, 0.5)
    assert usage.queue_s is not None
    assert not engine.busy


def test_a_principal_with_many_tasks_lets_others_in_between() -> None:
    """First come, first served within a principal; among principals in turn."""
    engine = Turns(Speller())
    for number, principal in enumerate(["ann", "ann", "ann", "bob", "cy"]):
        engine.begin(task(number, "x", principal))

    order = [answer.id for answer in said(engine) if isinstance(answer, Output) and answer.last]
    assert order == [0, 3, 4, 1, 2]


def test_a_cancelled_task_is_closed_at_once() -> None:
    """Running or waiting; the next one goes on as if it had never been there."""
    speller = Speller()
    engine = Turns(speller)
    for number in range(3):
        engine.begin(task(number, "abc"))
    engine.step()
    engine.cancel(0)
    engine.cancel(1)
    engine.cancel(99)

    assert speller.closed == [0]
    assert {answer.id for answer in said(engine)} == {2}


def test_a_refusal_and_a_bug_end_their_own_task_alone() -> None:
    """A refusal keeps its words; of what nobody expected only the kind is told, its text may quote a call."""
    engine = Turns(Speller())
    assert engine.begin(task(1, "?")) == [
        Refused(id=1, code="invalid_request_error", message="no questions", by_call=True, param="input")
    ]
    for number, text in enumerate(["a!", "#secret", "b"]):
        engine.begin(task(number, text))
    answers = said(engine)

    refusals = {answer.id: answer for answer in answers if isinstance(answer, Refused)}
    assert refusals[0].message == "no shouting"
    assert (refusals[1].code, refusals[1].by_call) == ("engine_error", False)
    assert "secret" not in refusals[1].message
    assert "#" not in refusals[1].message
    assert isinstance(answers[-1], Output)
    assert answers[-1].last
    assert answers[-1].id == 2


def test_a_short_task_ends_before_the_long_ones_that_came_first() -> None:
    """Three letters behind a hundred are said within a few steps, where two may be under way."""
    engine = Turns(Speller(parallel=2))
    engine.begin(task(1, "a" * 100))
    engine.step()
    engine.begin(task(2, "abc"))
    answers = said(engine, steps_count=8)

    ended = [answer.id for answer in answers if isinstance(answer, Output) and answer.last]
    assert ended == [2]
    assert engine.busy


TEXTS = st.text("ab !#", min_size=1, max_size=6)
PRINCIPALS = st.sampled_from(["ann", "bob", "cy"])


@given(
    st.integers(1, 4),
    st.lists(st.tuples(TEXTS, PRINCIPALS), min_size=1, max_size=9),
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 8)), max_size=4),
)
def test_each_task_is_answered_as_if_it_were_alone(
    parallel: int, asked: list[tuple[str, str]], cancels: list[tuple[int, int]]
) -> None:
    """However they mix, refusals and bugs end their own task alone, and a cancelled one says no more."""
    speller = Speller(parallel)
    engine = Turns(speller)
    for number, (text, principal) in enumerate(asked):
        engine.begin(task(number, text, principal))
    answers: list[Answer] = []
    cancelled = set()
    for step_count in range(200):
        for when, number in cancels:
            if when == step_count and not _ended(answers, number):
                engine.cancel(number)
                cancelled.add(number)
        if not engine.busy:
            break
        answers += engine.step()

    assert not engine.busy
    for number, (text, _) in enumerate(asked):
        whole = "".join(takewhile(lambda letter: letter not in "!#", text))
        letters = _letters(answers, number)
        if number in cancelled:
            assert whole.replace(" ", "").startswith(letters)
            assert not _ended(answers, number)
        else:
            assert letters == whole.replace(" ", "")
            assert _ended(answers, number) == ("said" if whole == text else "refused")


def _letters(answers: list[Answer], number: int) -> str:
    events = [
        event for one in answers if isinstance(one, Output) and one.id == number for event in one.events
    ]
    return b"".join(event.content for event in events if isinstance(event, Sound)).decode()


def _ended(answers: list[Answer], number: int) -> str:
    """How a task ended, once; empty: it has not."""
    ends = [one for one in answers if one.id == number and (isinstance(one, Refused) or one.last)]
    assert len(ends) <= 1
    return "" if not ends else "refused" if isinstance(ends[0], Refused) else "said"


def test_closing_frees_the_model() -> None:
    """The craft is closed with its engine."""
    speller = Speller()
    Turns(speller).close()
    assert speller.is_closed
