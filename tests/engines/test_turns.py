"""One task at a time: whose turn it is, what a cancellation frees, whom an error harms."""

from __future__ import annotations

from collections.abc import Generator

from hybrid_router.core.asks import Speech
from hybrid_router.core.call import Operation
from hybrid_router.core.event import Batch, Finish, Sound, Usage
from hybrid_router.engines.task import Answer, Opened, Output, Refused, Task, TaskRefused
from hybrid_router.engines.turns import Turns


class Speller:
    """Says a text letter by letter.  `!` is refused in the middle, `?` at once, `#` is a bug of a library."""

    def __init__(self) -> None:
        self.closed: list[int] = []
        self.is_closed = False

    def opened(self) -> Opened:
        return Opened(description="speller", parallel=1)

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


def test_closing_frees_the_model() -> None:
    """The craft is closed with its engine."""
    speller = Speller()
    Turns(speller).close()
    assert speller.is_closed
