"""One sequence of the batch: a prompt being computed, then an answer being written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from msgspec.structs import replace

from hybrid_router.core.event import Event, Finish, FinishReason, Text, Usage
from hybrid_router.engines.llama.sampler import Sampler
from hybrid_router.engines.llama.text import TextStream


@dataclass(eq=False)
class Sequence:
    """A choice of a task, waiting (no slot), in prefill (no next token) or decoding.

    Attributes:
        task_id, index: which task, which of its choices.
        prompt: token ids, those of a beginning of the answer with them.
        limit_count: tokens it may generate.
        computed_count: prompt tokens whose KV cells exist.
        next_token: sampled, shown, not yet computed.
    """

    task_id: int
    index: int
    prompt: list[int]
    limit_count: int
    sampler: Sampler
    text: TextStream
    slot: int | None = None
    computed_count: int = 0
    next_token: int | None = None
    generated_count: int = 0

    @property
    def position(self) -> int:
        """Where the next token goes in the context."""
        return self.computed_count if self.next_token is None else len(self.prompt) + self.generated_count - 1

    def take(self, token: int, piece: bytes, *, ends: bool) -> list[Event]:
        """Take the sampled token.  Returns what it shows; a `Finish` at the end if this was the last."""
        if ends:
            return self._finish(self.text.flush(), "stop")
        self.generated_count += 1
        shown, stopped = self.text.feed(piece)
        if stopped:
            return self._finish(shown, "stop")
        if self.generated_count >= self.limit_count:
            return self._finish(shown + self.text.flush(), "length")
        self.next_token = token
        return [Text(shown, self.index)] if shown else []

    def _finish(self, shown: str, reason: FinishReason) -> list[Event]:
        texts: list[Event] = [Text(shown, self.index)] if shown else []
        return [*texts, Finish(reason, self.index)]


@dataclass(frozen=True)
class Share:
    """What one sequence gets of a decode step: `count` tokens, the last with logits if `wants_logits`."""

    sequence: Sequence
    count: int
    wants_logits: bool


def shares(sequences: Iterable[Sequence], prefill_count: int) -> list[Share]:
    """Divide one decode step: a token for each running sequence, the rest for prompts in order of arrival.

    So a long prompt slows running answers by a bounded factor and never stalls them.
    """
    divided, left = [], prefill_count
    for sequence in sequences:
        if sequence.next_token is not None:
            divided.append(Share(sequence, 1, wants_logits=True))
            continue
        missing_count = len(sequence.prompt) - sequence.computed_count
        count = min(missing_count, left)
        if count:
            divided.append(Share(sequence, count, wants_logits=count == missing_count))
            left -= count
    return divided


@dataclass
class Ongoing:
    """A task while any of its choices is unfinished.

    Attributes:
        prompt_count, answer_count: tokens, those of a beginning that was given among the answer's.
        open_count: choices that are not finished.
        begun_s, computing_s, first_s: on the monotonic clock: the task came, its prompt's first tokens were
            computed, its first token was chosen.
    """

    begun_s: float
    prompt_count: int = 0
    sequences: list[Sequence] = field(default_factory=list)
    answer_count: int = 0
    open_count: int = 0
    computing_s: float | None = None
    first_s: float | None = None

    def usage(self, now_s: float) -> Usage:
        """What the task has cost once its last token was chosen."""
        counted = Usage(prompt_tokens=self.prompt_count, completion_tokens=self.answer_count)
        if self.computing_s is None or self.first_s is None:
            return counted
        return replace(
            counted,
            queue_s=self.computing_s - self.begun_s,
            prefill_s=self.first_s - self.computing_s,
            decode_s=now_s - self.first_s,
        )
