"""Many calls' texts in one forward pass."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from hybrid_router.core.call import Feature
from hybrid_router.core.event import Event, Finish, Usage
from hybrid_router.engines.encoders.computing import ComputeFailed, Found, Model
from hybrid_router.engines.encoders.passage import Passage, passes
from hybrid_router.engines.encoders.texts import Reader, Reading, Texts
from hybrid_router.engines.encoders.waiting import Waiting
from hybrid_router.engines.settings import EncoderSettings
from hybrid_router.engines.task import Answer, Opened, Output, Refused, Task, TaskRefused

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
        self._ongoing: dict[int, _Ongoing] = {}
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
        return bool(self._ongoing)

    def begin(self, task: Task) -> list[Answer]:
        try:
            reading = self._texts.of(task)
        except TaskRefused as no:
            return [no.told(task.id)]
        self._ongoing[task.id] = _Ongoing(begun_s=time.monotonic(), open_count=len(task.prompts))
        return self._read(task, reading)

    def _read(self, task: Task, reading: Reading) -> list[Answer]:
        """Read the next piece of a task; once it is whole its texts wait for a pass."""
        try:
            next(reading)
        except StopIteration as end:
            return self._take(task, end.value)
        except TaskRefused as no:
            del self._ongoing[task.id]
            return [no.told(task.id)]
        self._readings.append((task, reading))
        return []

    def _take(self, task: Task, passages: list[Passage]) -> list[Answer]:
        self._ongoing[task.id].prompt_count = sum(one.length for one in passages)
        self._waiting.add(task.id, task.principal, passages)
        return []

    def cancel(self, task_id: int) -> None:
        if self._ongoing.pop(task_id, None) is None:
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
        now_s = time.monotonic()
        for passage in taken:
            ongoing = self._ongoing[passage.task_id]
            ongoing.computing_s = ongoing.computing_s or now_s
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
        return self._answers(found)

    def _alone(self, passage: Passage) -> list[Answer]:
        """Compute a text of a pass that failed.  The one at fault ends its task, and no other."""
        try:
            (event,) = self._model.compute([passage])
        except ComputeFailed as failure:
            return self._failed(passage, str(failure))
        if event is None:
            return self._failed(passage, "what comes of it is no number")
        return self._answers([(passage.task_id, event)])

    def _failed(self, passage: Passage, reason: str) -> list[Answer]:
        self.cancel(passage.task_id)
        message = f"text {passage.index} cannot be computed ({reason})"
        return [Refused(id=passage.task_id, code="backend_error", message=message)]

    def _answers(self, found: list[tuple[int, Found]]) -> list[Answer]:
        """What passes brought, by task."""
        shown: dict[int, list[Event]] = {}
        for task_id, event in found:
            shown.setdefault(task_id, []).extend((event, Finish("stop", event.index)))
            self._ongoing[task_id].open_count -= 1
        return [self._output(task_id, events) for task_id, events in shown.items()]

    def _output(self, task_id: int, events: list[Event]) -> Output:
        ongoing = self._ongoing[task_id]
        if ongoing.open_count:
            return Output(id=task_id, events=events)
        del self._ongoing[task_id]
        return Output(id=task_id, events=[*events, ongoing.usage(time.monotonic())], last=True)

    def idle(self) -> bool:
        """Nothing is put away: vectors are not kept."""
        return False

    def close(self) -> None:
        self._ongoing.clear()


class ReadingModel(Model, Reader, Protocol):
    """A model with its tokenizer."""


@dataclass(eq=False)
class _Ongoing:
    """A task while a text of it is not computed.  Times are on the monotonic clock."""

    begun_s: float
    open_count: int
    prompt_count: int = 0
    computing_s: float | None = None

    def usage(self, now_s: float) -> Usage:
        started_s = now_s if self.computing_s is None else self.computing_s
        return Usage(
            self.prompt_count, 0, queue_s=started_s - self.begun_s, prefill_s=now_s - started_s, decode_s=0.0
        )
