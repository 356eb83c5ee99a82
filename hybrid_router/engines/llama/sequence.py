"""One sequence of the batch: a prompt being computed, then an answer being written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec.structs import replace

from hybrid_router.core.call import Adapter
from hybrid_router.core.event import Event, TokenScore, Usage
from hybrid_router.engines.llama.media import block as media
from hybrid_router.engines.llama.media.block import Block
from hybrid_router.engines.llama.sampler import Sampler
from hybrid_router.engines.llama.seams import Constraint
from hybrid_router.engines.llama.voice import Voice


@dataclass(eq=False, kw_only=True)
class Sequence:
    """A choice of a task, waiting (no slot), in prefill or decoding.

    Attributes:
        task_id, index: which task, which of its choices.
        leads: it is the first choice of its prompt; the others wait for it.
        principal, space: whose it is, and with whose tokens it may share.
        adapters: what its cells are computed with.
        tokens: the prompt, a beginning of the answer with it, and what was chosen since.  Negative ones stand
            for places in `blocks`: nothing but an index of prefixes may look at them.
        blocks: images and sound in the prompt, in order.
        prompt_count: how many of them were given.
        limit_count: tokens it may generate.
        top_count: log probabilities are wanted, of so many others at each place; None: none.
        prompt_scores: gathers those of the prompt, if they are wanted.
        computed_count: tokens whose KV cells exist.
        cached_count: of those, how many were there already.
        parting_count: up to there others wait for it: a step ends there, and they go on beside it.
        pause_count: when so many are computed, a copy of what it remembers is kept; 0: none is.
        drafts: guesses that the step at hand tries.
        thinking_count: tokens of reasoning it may write; None: as many as it likes.
        tokenize: for what it is made to say.
        forced: tokens that come next, whatever the model would say.
    """

    task_id: int
    index: int
    tokens: list[int]
    limit_count: int
    sampler: Sampler
    voice: Voice
    leads: bool = True
    principal: str = "local"
    space: str = ""
    private: bool = False
    adapters: tuple[Adapter, ...] = ()
    blocks: tuple[Block, ...] = ()
    constraint: Constraint | None = None
    top_count: int | None = None
    prompt_scores: list[TokenScore] | None = None
    slot: int | None = None
    computed_count: int = 0
    cached_count: int = 0
    parting_count: int = 0
    pause_count: int = 0
    generated_count: int = 0
    drafts: list[int] = field(default_factory=list)
    thinking_count: int | None = None
    tokenize: Callable[[str], list[int]] = field(default=lambda _text: [])
    forced: deque[int] = field(default_factory=deque)
    prompt_count: int = field(init=False)

    def __post_init__(self) -> None:
        self.prompt_count = len(self.tokens)

    @property
    def decoding(self) -> bool:
        """Whether its prompt is computed and a token was chosen."""
        return len(self.tokens) > self.prompt_count

    @property
    def missing_count(self) -> int:
        """Tokens of the prompt that can be computed now: up to the next image or sound, or to a parting."""
        ahead = self.block_ahead
        end = self.prompt_count if ahead is None else ahead.start
        if self.computed_count < self.parting_count:
            end = min(end, self.parting_count)
        return end - self.computed_count

    @property
    def block_ahead(self) -> Block | None:
        """The next image or sound that is still to be computed."""
        if not self.blocks:
            return None
        return next((block for block in self.blocks if block.start >= self.computed_count), None)

    @property
    def block(self) -> Block | None:
        """The image or sound that comes right now."""
        ahead = self.block_ahead
        return ahead if ahead is not None and ahead.start == self.computed_count else None

    def whole(self, count: int) -> int:
        """`count` tokens, or fewer: those before the image or sound that they would end in."""
        return media.whole(self.blocks, count)

    @property
    def cached_tokens_count(self) -> int:
        """KV cells of the tokens that were there already."""
        return media.tokens_count(self.blocks, self.cached_count)

    def before_pause(self, count: int) -> int:
        """`count` tokens of the prompt, or fewer: those until a copy is to be kept."""
        left_count = self.pause_count - self.computed_count
        return min(count, left_count) if left_count > 0 else count

    def take(self, token: int, score: TokenScore | None, *, ends: bool) -> tuple[list[Event], bool]:
        """Take the chosen token.  Returns what it shows, and whether it was the last: then with a finish."""
        if ends:
            return self.voice.end("stop"), True
        self.generated_count += 1
        shown, stopped = self.voice.say(token, score)
        if stopped:
            return shown + self.voice.end("stop", stopped=True), True
        if self.voice.over or (self.constraint is not None and self.constraint.complete):
            return shown + self.voice.end("stop"), True
        if self.generated_count >= self.limit_count:
            return shown + self.voice.end("length"), True
        self.tokens.append(token)
        self._mind_the_budget()
        return shown, False

    def _mind_the_budget(self) -> None:
        """Have the reasoning end when it is as long as it may be."""
        if self.thinking_count is None or self.generated_count < self.thinking_count:
            return
        self.thinking_count = None
        if closing := self.voice.closing:
            self.forced += self.tokenize(closing)


@dataclass
class Ongoing:
    """A task while any of its choices is unfinished.

    Attributes:
        prompt_count, answer_count: tokens, those of a beginning that was given among the answer's.
        cached_count: tokens of the prompts that were not computed again.
        open_count: choices that are not finished.
        begun_s, computing_s, first_s: on the monotonic clock: the task came, its prompt's first tokens were
            computed, its first token was chosen.
        drafted_count, accepted_count: tokens that were guessed ahead, and those that were right.
    """

    begun_s: float
    prompt_count: int = 0
    sequences: list[Sequence] = field(default_factory=list)
    answer_count: int = 0
    cached_count: int = 0
    open_count: int = 0
    computing_s: float | None = None
    first_s: float | None = None
    drafted_count: int = 0
    accepted_count: int = 0

    def usage(self, now_s: float) -> Usage:
        """What the task has cost once its last token was chosen."""
        counted = Usage(
            prompt_tokens=self.prompt_count,
            completion_tokens=self.answer_count,
            cached_tokens=min(self.cached_count, self.prompt_count),
            drafted_tokens=self.drafted_count,
            accepted_tokens=self.accepted_count,
        )
        if self.computing_s is None or self.first_s is None:
            return counted
        return replace(
            counted,
            queue_s=self.computing_s - self.begun_s,
            prefill_s=self.first_s - self.computing_s,
            decode_s=now_s - self.first_s,
        )
