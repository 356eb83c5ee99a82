"""Continuous batching: one decode loop for all sequences of one model."""

from __future__ import annotations

import time
from collections import deque

import jinja2

from hybrid_router.core.call import Operation
from hybrid_router.core.event import Event, Finish
from hybrid_router.engines.llama.context import Context, DecodeFailed
from hybrid_router.engines.llama.sampler import Sampler
from hybrid_router.engines.llama.sequence import Ongoing, Sequence, Share, shares
from hybrid_router.engines.llama.template import Template
from hybrid_router.engines.llama.text import TextStream
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.llama.written import tokens_of
from hybrid_router.engines.task import (
    Answer,
    EngineFailed,
    Opened,
    Output,
    Refused,
    Settings,
    Task,
    TaskRefused,
)

_DEFAULT_CONTEXT = 4096
_DEFAULT_PARALLEL = 2


class LlamaEngine:
    """Answers tasks from one GGUF.  See `engines.task.Engine`."""

    def __init__(self, settings: Settings) -> None:
        """Open the model.

        Raises:
            EngineFailed: the file cannot be used; names it.
        """
        self._settings = settings
        self._weights = Weights(settings.path, settings.offload)
        self._parallel = settings.parallel or _DEFAULT_PARALLEL
        self._length = _context_length(settings, self._weights.trained_context)
        self._context = Context(
            self._weights,
            settings,
            cells_count=self._length * self._parallel,
            sequences_count=self._parallel,
            batch_count=settings.prefill_chunk + self._parallel,
        )
        self._template = self._compile_template()
        self._free_slots = deque(range(self._parallel))
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._ongoing: dict[int, Ongoing] = {}

    def _compile_template(self) -> Template | None:
        source = self._weights.template()
        if source is None:
            return None
        try:
            return Template(source, self._weights.special_text("bos"), self._weights.special_text("eos"))
        except jinja2.TemplateError as error:
            raise EngineFailed(f"{self._settings.path}: its chat template is not valid ({error})") from error

    def opened(self) -> Opened:
        """What the model is."""
        return Opened(
            description=self._weights.description,
            context=self._length,
            parallel=self._parallel,
            has_template=self._template is not None,
            vocabulary_count=self._weights.vocabulary_count,
        )

    @property
    def busy(self) -> bool:
        return bool(self._running or self._waiting)

    def begin(self, task: Task) -> list[Answer]:
        ongoing = Ongoing(begun_s=time.monotonic())
        try:
            self._prepare(task, ongoing)
        except TaskRefused as no:
            for sequence in ongoing.sequences:
                sequence.sampler.close()
            return [Refused(id=task.id, code=no.code, message=no.message, by_call=no.by_call)]
        if not ongoing.sequences:
            ends: list[Event] = [Finish("length", index) for index in range(ongoing.open_count)]
            return [Output(id=task.id, events=[*ends, ongoing.usage(time.monotonic())], last=True)]
        self._ongoing[task.id] = ongoing
        self._waiting.extend(ongoing.sequences)
        return []

    def _prepare(self, task: Task, ongoing: Ongoing) -> None:
        """Count the task's tokens and make its sequences; none, if the answer is as long as it may be."""
        written = tokens_of(task.written, self._weights) if task.written else []
        prompts = self._prompts(task)
        ongoing.prompt_count = sum(len(prompt) for prompt in prompts)
        ongoing.open_count = len(prompts) * task.n
        ongoing.answer_count = len(written) * ongoing.open_count
        limit_count = task.sampling.max_tokens
        if written and limit_count is not None and len(written) >= limit_count:
            return
        for choice in range(ongoing.open_count):
            ongoing.sequences.append(self._sequence(task, choice, prompts[choice // task.n], written))

    def _prompts(self, task: Task) -> list[list[int]]:
        """Token ids of each prompt."""
        if task.operation is Operation.CHAT:
            return [self._chat_prompt(task)]
        return [
            self._weights.tokenize(prompt) if isinstance(prompt, str) else list(prompt)
            for prompt in task.prompts
        ]

    def _chat_prompt(self, task: Task) -> list[int]:
        if self._template is None:
            raise TaskRefused("template_failed", "this model has no chat template; use /v1/completions")
        text = self._template.render(task.messages)
        bos = self._weights.special_text("bos")
        return self._weights.tokenize(text, add_special=not (bos and text.startswith(bos)))

    def _check(self, prompt: list[int], written: list[int]) -> None:
        if not prompt:
            raise TaskRefused("invalid_request_error", "the prompt is empty", by_call=True)
        if any(not 0 <= token < self._weights.vocabulary_count for token in prompt):
            raise TaskRefused(
                "invalid_request_error",
                f"the prompt holds a token id outside 0 to {self._weights.vocabulary_count - 1}",
                by_call=True,
            )
        if len(prompt) + len(written) >= self._length:
            begun = f" and the answer so far {len(written)}" if written else ""
            raise TaskRefused(
                "context_length_exceeded",
                f"the prompt has {len(prompt)} tokens{begun}, this model's context is {self._length} tokens",
                by_call=True,
            )

    def _sequence(self, task: Task, choice: int, prompt: list[int], written: list[int]) -> Sequence:
        self._check(prompt, written)
        room_count = self._length - len(prompt)
        wanted_count = task.sampling.max_tokens
        limit_count = room_count if wanted_count is None else min(wanted_count, room_count)
        return Sequence(
            task_id=task.id,
            index=choice,
            prompt=prompt + written,
            limit_count=limit_count - len(written),
            sampler=Sampler(task.sampling, choice, self._weights.vocabulary_count, written),
            text=TextStream(task.sampling.stop, task.written),
        )

    def cancel(self, task_id: int) -> None:
        ongoing = self._ongoing.pop(task_id, None)
        if ongoing is None:
            return
        for sequence in ongoing.sequences:
            self._release(sequence)
        self._waiting = deque(sequence for sequence in self._waiting if sequence.task_id != task_id)

    def step(self) -> list[Answer]:
        self._admit()
        divided = shares(self._running, self._settings.prefill_chunk)
        self._note_start(divided)
        try:
            self._context.decode(_entries(divided))
        except DecodeFailed as error:
            return self._give_up(divided, str(error))
        return self._sampled(divided)

    def _admit(self) -> None:
        while self._waiting and self._free_slots:
            sequence = self._waiting.popleft()
            sequence.slot = self._free_slots.popleft()
            self._running.append(sequence)

    def _note_start(self, divided: list[Share]) -> None:
        """Remember when a task's prompt was first computed."""
        for share in divided:
            if share.sequence.computed_count == 0:
                ongoing = self._ongoing[share.sequence.task_id]
                ongoing.computing_s = ongoing.computing_s or time.monotonic()

    def _sampled(self, divided: list[Share]) -> list[Answer]:
        """Sample for every sequence that asked for logits; gather what shows, by task."""
        shown: dict[int, list[Event]] = {}
        entry = -1
        for share in divided:
            entry += share.count
            sequence = share.sequence
            if sequence.next_token is None:
                sequence.computed_count += share.count
            if share.wants_logits:
                token = sequence.sampler.choose(self._context, entry)
                if sequence.next_token is None:
                    self._note_first(sequence)
                events = sequence.take(token, self._weights.piece(token), ends=self._weights.ends(token))
                if events:
                    shown.setdefault(sequence.task_id, []).extend(events)
                if events and isinstance(events[-1], Finish):
                    self._close_choice(sequence)
        return [self._output(task_id, events) for task_id, events in shown.items()]

    def _note_first(self, sequence: Sequence) -> None:
        """Remember when a task's first token was chosen."""
        ongoing = self._ongoing[sequence.task_id]
        ongoing.first_s = ongoing.first_s or time.monotonic()

    def _close_choice(self, sequence: Sequence) -> None:
        self._release(sequence)
        ongoing = self._ongoing[sequence.task_id]
        ongoing.answer_count += sequence.generated_count
        ongoing.open_count -= 1

    def _output(self, task_id: int, events: list[Event]) -> Output:
        ongoing = self._ongoing[task_id]
        if ongoing.open_count:
            return Output(id=task_id, events=events)
        del self._ongoing[task_id]
        return Output(id=task_id, events=[*events, ongoing.usage(time.monotonic())], last=True)

    def _release(self, sequence: Sequence) -> None:
        """Give slot, KV cells and sampler back.  Waiting sequences hold only a sampler."""
        if sequence.slot is not None:
            self._context.forget(sequence.slot)
            self._free_slots.append(sequence.slot)
            self._running.remove(sequence)
            sequence.slot = None
        sequence.sampler.close()

    def _give_up(self, divided: list[Share], reason: str) -> list[Answer]:
        """End the tasks of a failed batch; the others keep their cells."""
        failed = {share.sequence.task_id for share in divided}
        for task_id in failed:
            self.cancel(task_id)
        return [
            Refused(id=task_id, code="backend_error", message=f"decoding failed: {reason}")
            for task_id in failed
        ]

    def close(self) -> None:
        for task_id in list(self._ongoing):
            self.cancel(task_id)
        self._context.close()
        self._weights.close()


def _context_length(settings: Settings, trained: int) -> int:
    """Tokens of prompt and answer.

    Raises:
        EngineFailed: more than the model was trained for.
    """
    length = settings.context or min(trained, _DEFAULT_CONTEXT)
    if length > trained:
        raise EngineFailed(
            f"{settings.path}: `context` is {length}; lower it, the model was trained for {trained} tokens"
        )
    return length


def _entries(divided: list[Share]) -> list[tuple[int, int, int, bool]]:
    """The batch's entries: token, position, slot, whether logits are wanted."""
    entries = []
    for share in divided:
        sequence = share.sequence
        slot, at = sequence.slot or 0, sequence.position
        if sequence.next_token is not None:
            entries.append((sequence.next_token, at, slot, True))
            continue
        tokens = sequence.prompt[at : at + share.count]
        entries += [(token, at + i, slot, False) for i, token in enumerate(tokens)]
        if share.wants_logits:
            entries[-1] = (*entries[-1][:3], True)
    return entries
