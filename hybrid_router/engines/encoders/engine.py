"""Many calls' texts in one forward pass."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from hybrid_router.core.call import Feature
from hybrid_router.engines.encoders.computing import ComputeFailed, Model
from hybrid_router.engines.encoders.passage import Passage, passes
from hybrid_router.engines.encoders.texts import Reader, Reading, Texts
from hybrid_router.engines.encoders.waiting import Waiting
from hybrid_router.engines.settings import EncoderSettings
from hybrid_router.engines.tally import Found, Tally
from hybrid_router.engines.task import Answer, Opened, Refused, Task, TaskRefused

_PARALLEL = 64  # calls whose texts may share passes


class EncoderEngine:
    """Embeds texts, or ranks documents.  See `engines.task.Engine`.

    A step reads a piece of a long task's text, and computes what is read: texts of all tasks in turn, at most
    `batch_tokens` of them, sorted by length and divided among few passes that hold little padding.
    """

    def __init__(self, settings: EncoderSettings, model: ReadingModel) -> None:
        self._model = model
        self._settings = settings
        self._texts = Texts(self._model, settings)
        self._readings: deque[tuple[Task, Reading]] = deque()
        self._tally = Tally()
        self._waiting = Waiting()
        self._suspects: deque[Passage] = deque()  # of passes that failed; each is tried alone

    def opened(self) -> Opened:
        """What the model is."""
        return Opened(
            description=self._model.description,
            parallel=self._settings.parallel or _PARALLEL,
            context=self._model.context,
            vocabulary_count=self._model.vocabulary_count,
            can=frozenset({Feature.PROMPTS}) if self._model.width else frozenset(),
            width=self._model.width,
        )

    @property
    def busy(self) -> bool:
        return bool(self._tally)

    def begin(self, task: Task) -> list[Answer]:
        try:
            reading = self._texts.of(task)
        except TaskRefused as no:
            return [no.told(task.id)]
        self._tally.open(task.id, len(task.prompts))
        return self._read(task, reading)

    def _read(self, task: Task, reading: Reading) -> list[Answer]:
        """Read the next piece of a task; once it is whole its texts wait for a pass."""
        try:
            next(reading)
        except StopIteration as end:
            return self._take(task, end.value)
        except TaskRefused as no:
            self._tally.drop(task.id)
            return [no.told(task.id)]
        self._readings.append((task, reading))
        return []

    def _take(self, task: Task, passages: list[Passage]) -> list[Answer]:
        self._tally.read(task.id, sum(one.length for one in passages))
        self._waiting.add(task.id, task.principal, passages)
        return []

    def cancel(self, task_id: int) -> None:
        if not self._tally.drop(task_id):
            return
        self._readings = deque(one for one in self._readings if one[0].id != task_id)
        self._suspects = deque(one for one in self._suspects if one.task_id != task_id)
        self._waiting.drop(task_id)

    def step(self) -> list[Answer]:
        answers: list[Answer] = []
        if self._readings:
            answers += self._read(*self._readings.popleft())
        if self._suspects:
            answers += self._alone(self._suspects.popleft())
        if self._waiting:
            answers += self._computed(self._waiting.take(self._settings.batch_tokens))
        return answers

    def _computed(self, taken: list[Passage]) -> list[Answer]:
        self._tally.compute(passage.task_id for passage in taken)
        found: list[tuple[int, Found]] = []
        for together in passes(taken, self._settings.batch_tokens, self._model.pass_cost_tokens):
            try:
                events = self._model.compute(together)
            except ComputeFailed:
                self._suspects.extend(together)
                continue
            for passage, event in zip(together, events, strict=True):
                if event is None:
                    self._suspects.append(passage)
                else:
                    found.append((passage.task_id, event))
        return self._tally.answers(found)

    def _alone(self, passage: Passage) -> list[Answer]:
        """Compute a text of a pass that failed.  The one at fault ends its task, and no other."""
        try:
            (event,) = self._model.compute([passage])
        except ComputeFailed as failure:
            return self._failed(passage, str(failure))
        if event is None:
            return self._failed(passage, "what comes of it is no number")
        return self._tally.answers([(passage.task_id, event)])

    def _failed(self, passage: Passage, reason: str) -> list[Answer]:
        self.cancel(passage.task_id)
        message = f"text {passage.index} cannot be computed ({reason})"
        return [Refused(id=passage.task_id, code="backend_error", message=message)]

    def idle(self) -> bool:
        """Nothing is put away: vectors are not kept."""
        return False

    def close(self) -> None:
        self._tally.clear()


class ReadingModel(Model, Reader, Protocol):
    """A model with its tokenizer."""
