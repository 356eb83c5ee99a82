"""Verdicts written by a language model: Llama Guard, or a chat model that is asked as if it were one.

Each text is a chat of its own, whose answer is bound to a verdict's form by a grammar; so many are computed
together, and nothing else can be said.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from msgspec.structs import replace

from hybrid_router.core.call import Message, Operation, Sampling
from hybrid_router.core.event import Event, Finish, Text, TokenScore, Usage
from hybrid_router.engines.llama import gguf
from hybrid_router.engines.llama.engine import LlamaEngine
from hybrid_router.engines.moderate import hazards
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.engines.task import Answer, Opened, Output, Refused, Task, TaskRefused

_LONGEST_TOKENS = 128
_TOP_COUNT = 20  # of those that the form allows, which are fewer: all beginnings of either word are there
_IMAGES_REFUSED = "input: this guard model reads texts only; leave images out, or use one that reads them"


@dataclass
class _Judged:
    """One text on its way."""

    task_id: int
    index: int
    said: list[str] = field(default_factory=list)
    scores: list[TokenScore] = field(default_factory=list)


@dataclass
class _Ongoing:
    """A task of which a text is not judged."""

    open_ids: set[int] = field(default_factory=set)
    usages: list[Usage] = field(default_factory=list)


class GuardModel:
    """See `engines.task.Engine`."""

    def __init__(self, settings: LlamaSettings) -> None:
        """Open the model.

        Raises:
            EngineFailed: the file cannot be used; names it.
        """
        template = gguf.read(settings.path).metadata.get("tokenizer.chat_template")
        own = hazards.hazards_of(template if isinstance(template, str) else None)
        self._asks_by_template = own is not None
        self._hazards = hazards.LLAMA_GUARD_3 if own is None else own
        self._engine = LlamaEngine(settings)
        self._has_template = self._engine.opened().has_template
        self._numbers = itertools.count(1)
        self._judged: dict[int, _Judged] = {}  # by the number that the text has inside
        self._ongoing: dict[int, _Ongoing] = {}

    def opened(self) -> Opened:
        """What the model is; beyond verdicts it is asked nothing."""
        return replace(self._engine.opened(), can=frozenset())

    @property
    def busy(self) -> bool:
        return self._engine.busy

    def begin(self, task: Task) -> list[Answer]:
        try:
            texts = _texts(task)
        except TaskRefused as no:
            return [no.told(task.id)]
        self._ongoing[task.id] = ongoing = _Ongoing()
        for index, text in enumerate(texts):
            number = next(self._numbers)
            self._judged[number] = _Judged(task.id, index)
            ongoing.open_ids.add(number)
            if refusals := self._engine.begin(self._question(number, text, task)):
                return self._told(refusals)
        return []

    def _question(self, number: int, text: str, task: Task) -> Task:
        asked = text if self._asks_by_template else hazards.prompt(text)
        question = Task(
            id=number,
            operation=Operation.CHAT,
            messages=(Message(role="user", content=asked),),
            sampling=Sampling(temperature=0.0, max_tokens=_LONGEST_TOKENS),
            response_format={"type": "regex", "regex": hazards.pattern(self._hazards)},
            top_logprobs=_TOP_COUNT,
            principal=task.principal,
            private=task.private,
        )
        if self._has_template:
            return question
        return replace(question, operation=Operation.COMPLETE, messages=(), prompts=(f"{asked}\n",))

    def cancel(self, task_id: int) -> None:
        ongoing = self._ongoing.pop(task_id, None)
        for number in ongoing.open_ids if ongoing is not None else ():
            self._engine.cancel(number)
            del self._judged[number]

    def step(self) -> list[Answer]:
        return self._told(self._engine.step())

    def _told(self, answers: list[Answer]) -> list[Answer]:
        """What was said of texts, as answers of their tasks."""
        told: list[Answer] = []
        for answer in answers:
            judged = self._judged.get(answer.id)
            if judged is None:  # another text of its task was refused
                continue
            if isinstance(answer, Refused):
                self.cancel(judged.task_id)
                told.append(replace(answer, id=judged.task_id, param="input" if answer.by_call else None))
            else:
                told += self._heard(judged, answer)
        return told

    def _heard(self, judged: _Judged, output: Output) -> list[Answer]:
        ongoing = self._ongoing[judged.task_id]
        for event in output.events:
            if isinstance(event, Text):
                judged.said.append(event.text)
                judged.scores += event.scores
            elif isinstance(event, Usage):
                ongoing.usages.append(event)
        return self._closed(judged, output.id) if output.last else []

    def _closed(self, judged: _Judged, number: int) -> list[Answer]:
        """A text is judged; with its task's last, that is over."""
        task_id, ongoing = judged.task_id, self._ongoing[judged.task_id]
        ongoing.open_ids.remove(number)
        del self._judged[number]
        verdict = hazards.verdict("".join(judged.said), judged.scores, self._hazards, judged.index)
        if verdict is None:
            self.cancel(task_id)
            return [
                Refused(id=task_id, code="engine_error", message="the model gave no verdict with a score")
            ]
        events: list[Event] = [verdict, Finish("stop", judged.index)]
        if ongoing.open_ids:
            return [Output(id=task_id, events=events)]
        del self._ongoing[task_id]
        return [Output(id=task_id, events=[*events, _summed(ongoing.usages)], last=True)]

    def idle(self) -> bool:
        return self._engine.idle()

    def close(self) -> None:
        self._engine.close()


def _texts(task: Task) -> list[str]:
    """What is to be judged.

    Raises:
        TaskRefused: not only texts.
    """
    if task.operation is not Operation.MODERATE:
        raise TaskRefused(
            "unsupported_parameter", f"{task.operation}: this model gives verdicts only", by_call=True
        )
    if task.uploads:
        raise TaskRefused("unsupported_parameter", _IMAGES_REFUSED, by_call=True, param="input")
    texts = [prompt for prompt in task.prompts if isinstance(prompt, str)]
    if not texts or len(texts) < len(task.prompts):
        raise TaskRefused("invalid_request_error", "input: expected texts", by_call=True, param="input")
    return texts


def _summed(usages: list[Usage]) -> Usage:
    """All texts' together: they were computed side by side, so times are the longest."""
    return Usage(
        sum(one.prompt_tokens for one in usages),
        sum(one.completion_tokens for one in usages),
        cached_tokens=sum(one.cached_tokens for one in usages),
        queue_s=max((one.queue_s or 0.0 for one in usages), default=None),
        prefill_s=max((one.prefill_s or 0.0 for one in usages), default=None),
        decode_s=max((one.decode_s or 0.0 for one in usages), default=None),
    )
