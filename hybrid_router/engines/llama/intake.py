"""From a task to its sequences, ready to be computed."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from hybrid_router.core.call import Adapter
from hybrid_router.core.event import TokenScore
from hybrid_router.engines.llama.adapters import Adapters
from hybrid_router.engines.llama.chain import Prototypes
from hybrid_router.engines.llama.constraint import Constraints
from hybrid_router.engines.llama.prompts import Given, Prompts
from hybrid_router.engines.llama.sampler import Sampler
from hybrid_router.engines.llama.seams import Prompt
from hybrid_router.engines.llama.sequence import Ongoing, Sequence
from hybrid_router.engines.llama.voice import Voice
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.llama.written import tokens_of
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.engines.task import Task, TaskRefused


class Intake:
    """Reads the tasks of one model.  `length` is its context in tokens."""

    def __init__(
        self, weights: Weights, prompts: Prompts, adapters: Adapters, settings: LlamaSettings, length: int
    ) -> None:
        self._adapters = adapters
        self._constraints = Constraints(weights)
        self._prototypes = Prototypes(weights)
        self._weights = weights
        self._prompts = prompts
        self._settings = settings
        self._length = length

    def read(self, task: Task) -> Ongoing:
        """A task with its sequences; with none, if the answer is as long as it may be already.

        Raises:
            TaskRefused: it cannot be done.
        """
        ongoing = Ongoing(begun_s=time.monotonic())
        written = tokens_of(task.written, self._weights) if task.written else []
        prompts = self._prompts.of(task, written)
        ongoing.prompt_count = sum(given.tokens_count for given in prompts)
        ongoing.open_count = len(prompts) * task.n
        ongoing.answer_count = len(written) * ongoing.open_count
        limit_count = task.sampling.max_tokens
        if written and limit_count is not None and len(written) >= limit_count:
            return ongoing
        try:
            for choice in range(ongoing.open_count):
                ongoing.sequences.append(self._sequence(task, choice, prompts[choice // task.n], written))
        except TaskRefused:
            for sequence in ongoing.sequences:
                sequence.sampler.close()
            raise
        return ongoing

    def _sequence(self, task: Task, choice: int, given: Given, written: list[int]) -> Sequence:
        prompt = given.prompt
        constraint = None if prompt.form is None else self._constraints.compile(prompt.form, task.written)
        worn = self._adapters.chosen(task.adapters)
        room_count = self._length - given.tokens_count
        wanted_count = task.sampling.max_tokens
        limit_count = room_count if wanted_count is None else min(wanted_count, room_count)
        gathered: list[TokenScore] | None = [] if task.echo and task.top_logprobs is not None else None
        return Sequence(
            task_id=task.id,
            index=choice,
            leads=choice % task.n == 0,
            tokens=given.tokens + written,
            blocks=given.blocks,
            limit_count=limit_count - len(written),
            sampler=Sampler(
                task.sampling,
                choice,
                self._weights,
                written,
                constraint,
                prompt=given.text,
                prototypes=self._prototypes,
                scores_allowed=self._settings.purpose == "moderate",
            ),
            constraint=constraint,
            thinking_count=task.reasoning_tokens or None,
            tokenize=partial(self._weights.tokenize, add_special=False),
            voice=self._voice(task, choice, prompt),
            principal=task.principal,
            space=self._space(task, worn),
            private=task.private,
            adapters=worn,
            top_count=task.top_logprobs,
            prompt_scores=gathered,
        )

    def close(self) -> None:
        """Free what was made for all tasks."""
        self._prototypes.close()

    def _space(self, task: Task, chosen: tuple[Adapter, ...]) -> str:
        """With whose tokens these may be shared: the same principal's, computed with the same adapters."""
        whose = "" if self._settings.keeping.everyone else task.principal
        return whose + self._adapters.mark(chosen)

    def _voice(self, task: Task, choice: int, prompt: Prompt) -> Voice:
        parser = None if prompt.parser is None else prompt.parser(choice)
        stops = task.sampling.stop + prompt.stops
        visible = self._visible(prompt.visible)
        piece: Callable[[int], bytes] = self._weights.piece
        if visible:
            piece = partial(self._shown, visible)
        return Voice(choice, piece, stops=stops, written=task.written, parser=parser)

    def _visible(self, texts: tuple[str, ...]) -> frozenset[int]:
        """The tokens that are exactly one of `texts`."""
        read = (self._weights.tokenize(text, add_special=False) for text in texts)
        return frozenset(tokens[0] for tokens in read if len(tokens) == 1)

    def _shown(self, visible: frozenset[int], token: int) -> bytes:
        return self._weights.shown_piece(token) if token in visible else self._weights.piece(token)
