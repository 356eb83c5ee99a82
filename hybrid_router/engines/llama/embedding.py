"""Vectors and relevance: many texts in one batch, tasks in turn."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from msgspec.structs import replace

from hybrid_router.core.event import Embedding, Relevance
from hybrid_router.engines.llama.context import Entry
from hybrid_router.engines.llama.fit import settled
from hybrid_router.engines.llama.opening import fitted
from hybrid_router.engines.llama.passages import Passages
from hybrid_router.engines.llama.pooled import ComputeFailed, PooledContext
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.engines.tally import Found, Tally
from hybrid_router.engines.task import Answer, Opened, Refused, Task, TaskRefused

_DEFAULT_PARALLEL = 4
_TEXTS_COUNT = 64  # in one batch
_WHOLE_ONLY_TEXTS_COUNT = 8  # recurrent models keep a state for each, whether it is used or not


@dataclass(eq=False)
class _Passage:
    """A text on its way.

    `slot` is its sequence while the context holds something of it.  `alone`: a batch failed that it was in,
    so it gets batches for itself.  `truncated`: some of its tokens were left out.
    """

    task_id: int
    index: int
    tokens: list[int]
    computed_count: int = 0
    slot: int | None = None
    alone: bool = False
    truncated: bool = False

    @property
    def left_count(self) -> int:
        return len(self.tokens) - self.computed_count


@dataclass(frozen=True)
class _Share:
    """What a text gets of one batch."""

    passage: _Passage
    count: int

    @property
    def is_last(self) -> bool:
        return self.count == self.passage.left_count

    def entries(self) -> list[Entry]:
        passage, at = self.passage, self.passage.computed_count
        tokens = passage.tokens[at : at + self.count]
        return [(token, at + i, passage.slot or 0, True) for i, token in enumerate(tokens)]


class EmbeddingEngine:
    """Embeds texts, or ranks documents, by `LlamaSettings.purpose`.  See `engines.task.Engine`.

    A batch takes a text of each task in turn until it holds `prefill_chunk` tokens; a longer text that cannot
    be computed in parts has a batch for itself.  Between batches tasks come and go.
    """

    def __init__(self, settings: LlamaSettings) -> None:
        """Open the model.

        Raises:
            EngineFailed: the file cannot be used for this; names it.
        """
        # What `parallel` calls ask is one queue of texts: they need no cells of their own.
        _, self._fit = fitted(replace(settings, parallel=1))
        self._weights = Weights(settings.path, settled(settings.offload, self._fit), checked=True)
        self._length = self._fit.context
        self._parallel = settings.parallel or _DEFAULT_PARALLEL
        self._chunk = settings.prefill_chunk
        self._context = PooledContext(
            self._weights,
            settings,
            length=self._length,
            sequences_count=_WHOLE_ONLY_TEXTS_COUNT if self._weights.whole_only else _TEXTS_COUNT,
        )
        self._ranks = settings.purpose == "rerank"
        self._passages = Passages(self._weights, settings, self._length)
        self._free_slots = deque(range(self._context.sequences_count))
        self._tally = Tally()
        self._waiting: dict[int, deque[_Passage]] = {}  # by task, in order of their turns
        self._begun: _Passage | None = None  # a text of which a part is computed
        self._suspects: deque[_Passage] = deque()  # texts of batches that failed

    def opened(self) -> Opened:
        """What the model is."""
        return Opened(
            description=self._weights.description,
            context=self._length,
            parallel=self._parallel,
            has_template=False,
            vocabulary_count=self._weights.vocabulary_count,
            width=0 if self._ranks else self._context.pooling.width,
            gpu_layers=self._fit.gpu_layers,
        )

    @property
    def busy(self) -> bool:
        return bool(self._tally)

    def begin(self, task: Task) -> list[Answer]:
        try:
            found = self._passages.of(task)
        except TaskRefused as no:
            return [no.told(task.id)]
        self._tally.open(task.id, len(found))
        self._tally.read(task.id, sum(len(tokens) for tokens, _ in found))
        self._waiting[task.id] = deque(
            _Passage(task.id, index, tokens, truncated=truncated)
            for index, (tokens, truncated) in enumerate(found)
        )
        return []

    def cancel(self, task_id: int) -> None:
        if not self._tally.drop(task_id):
            return
        self._waiting.pop(task_id, None)
        self._suspects = deque(passage for passage in self._suspects if passage.task_id != task_id)
        if self._begun is not None and self._begun.task_id == task_id:
            self._release(self._begun)
            self._begun = None

    def step(self) -> list[Answer]:
        shares = self._divided()
        self._tally.compute(share.passage.task_id for share in shares)
        try:
            self._context.compute([entry for share in shares for entry in share.entries()])
            whole = [share.passage for share in shares if share.is_last]
            found = [(passage.task_id, self._event(passage)) for passage in whole]
        except ComputeFailed as failure:
            return self._set_apart([share.passage for share in shares], str(failure))
        for share in shares:
            self._advance(share)
        return self._tally.answers(found)

    def _divided(self) -> list[_Share]:
        """The next batch: what is begun, then a text of each task in turn while there is room."""
        if self._begun is None and self._suspects:
            self._begun = self._suspects.popleft()
        if self._begun is not None and self._begun.alone:
            return [self._share(self._begun, self._chunk)]
        shares: list[_Share] = []
        room_count = self._chunk
        while (passage := self._next(room_count, is_first=not shares)) is not None:
            shares.append(self._share(passage, room_count))
            room_count -= shares[-1].count
        return shares

    def _next(self, room_count: int, *, is_first: bool) -> _Passage | None:
        """The text that goes on or comes next; None: the batch is full."""
        if room_count <= 0 or not (self._free_slots or self._begun):
            return None
        if self._begun is not None or not self._waiting:
            return self._begun
        task_id, waiting = next(iter(self._waiting.items()))
        if not (is_first or self._context.pooling.splits or waiting[0].left_count <= room_count):
            return None
        passage = waiting.popleft()
        del self._waiting[task_id]
        if waiting:
            self._waiting[task_id] = waiting  # behind the others
        return passage

    def _share(self, passage: _Passage, room_count: int) -> _Share:
        """What a text gets of a batch: all that is left of it, if it cannot be computed in parts."""
        count = passage.left_count
        if self._context.pooling.splits:
            count = min(count, room_count)
        if passage.slot is None:
            passage.slot = self._free_slots.popleft()
        self._begun = passage if count < passage.left_count else None
        return _Share(passage, count)

    def _event(self, passage: _Passage) -> Found:
        slot = passage.slot or 0
        if self._ranks:
            return Relevance(self._context.row(slot)[0].item(), passage.index)
        return Embedding(
            self._context.unit_row(slot).astype("<f4").tobytes(), passage.index, passage.truncated
        )

    def _advance(self, share: _Share) -> None:
        """Note what is computed; a whole text leaves its place."""
        passage = share.passage
        passage.computed_count += share.count
        if not passage.left_count:
            self._release(passage)

    def _release(self, passage: _Passage) -> None:
        """Give a text's sequence back."""
        if passage.slot is not None:
            self._context.forget(passage.slot)
            self._free_slots.append(passage.slot)
            passage.slot = None

    def _set_apart(self, passages: list[_Passage], reason: str) -> list[Answer]:
        """After a batch that failed: its texts begin anew, each alone.  The one at fault ends its task."""
        self._begun = None
        for passage in passages:
            self._release(passage)
            passage.computed_count, passage.alone = 0, True
        self._context.clear()
        if len(passages) > 1:
            self._suspects.extend(passages)
            return []
        (passage,) = passages
        self.cancel(passage.task_id)
        message = f"text {passage.index} cannot be computed: {reason}"
        return [Refused(id=passage.task_id, code="backend_error", message=message)]

    def idle(self) -> bool:
        """Nothing is put away: vectors are not kept."""
        return False

    def close(self) -> None:
        self._tally.clear()
        self._context.close()
        self._weights.close()
