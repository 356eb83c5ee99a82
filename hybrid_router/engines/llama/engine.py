"""Continuous batching: one decode loop for all sequences of one model."""

from __future__ import annotations

import time
from collections import Counter

from hybrid_router.core.event import Event, Finish, TokenScore
from hybrid_router.engines.llama import batch
from hybrid_router.engines.llama.adapters import Adapters
from hybrid_router.engines.llama.batch import Share
from hybrid_router.engines.llama.context import Context, DecodeFailed
from hybrid_router.engines.llama.drafting.drafter import Drafter
from hybrid_router.engines.llama.fit import settled
from hybrid_router.engines.llama.intake import Intake
from hybrid_router.engines.llama.keeping import kept
from hybrid_router.engines.llama.media.blocks import BlockFailed, Blocks
from hybrid_router.engines.llama.media.projector import Projector
from hybrid_router.engines.llama.opening import fitted
from hybrid_router.engines.llama.prompts import Prompts
from hybrid_router.engines.llama.schedule import Pace, catch_up, in_line
from hybrid_router.engines.llama.scores import scored
from hybrid_router.engines.llama.sequence import Ongoing, Sequence
from hybrid_router.engines.llama.slots import Slots
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.engines.task import (
    Answer,
    Opened,
    Output,
    Refused,
    Task,
    TaskRefused,
)

_MOST_SEQUENCES = 256  # LLAMA_MAX_SEQ of llama.cpp
_RETAINED = 32
_SAVING_S = 1.5  # to put on disk what is not there yet, when it closes


class LlamaEngine:
    """Answers tasks from one GGUF.  See `engines.task.Engine`."""

    def __init__(self, settings: LlamaSettings) -> None:
        """Open the model.

        Raises:
            EngineFailed: the file cannot be used; names it.
        """
        _, found = fitted(settings)
        self._weights = Weights(settings.path, settled(settings.offload, found), checked=True)
        self._fit = found
        projector = self._projector(settings)
        prompts = Prompts(self._weights, found.context, projector)
        self._can, self._has_template = prompts.can, prompts.has_template
        self._adapters = Adapters(self._weights, settings.adapters)
        self._intake = Intake(self._weights, prompts, self._adapters, settings, found.context)
        self._drafter = Drafter(settings, self._weights, found)
        whole_only = self._weights.whole_only
        retained_count = 2 * found.parallel if whole_only else _RETAINED
        writers_count = found.parallel * (1 + self._drafter.most_count)
        self._context = Context(
            self._weights,
            settings,
            cells_count=found.context * found.parallel,
            sequences_count=min(found.parallel + retained_count, _MOST_SEQUENCES),
            batch_count=settings.prefill_chunk + writers_count,
            outputs_count=writers_count + max(found.parallel, batch.ECHO_TOKENS),
            whole_count=0 if projector is None else projector.whole_count,
        )
        self._slots = Slots(
            self._context,
            kept(settings, found.context, whole_only=whole_only),
            live_count=found.parallel,
            whole_only=whole_only,
            on_disk=settings.keeping.folder is not None,
        )
        self._blocks = None if projector is None else Blocks(projector, self._context, self._slots)
        self._pace = Pace({})
        self._waiting: list[Sequence] = []
        self._running: list[Sequence] = []
        self._ongoing: dict[int, Ongoing] = {}
        self._served_count: Counter[str] = Counter()

    def _projector(self, settings: LlamaSettings) -> Projector | None:
        """What reads images and sound, if the model has it."""
        if settings.projector_path is None:
            return None
        on_gpu = settings.offload.layers != 0
        return Projector(settings.projector_path, self._weights, settings, on_gpu=on_gpu)

    def opened(self) -> Opened:
        """What the model is."""
        return Opened(
            description=self._weights.description,
            context=self._fit.context,
            parallel=self._fit.parallel,
            has_template=self._has_template,
            vocabulary_count=self._weights.vocabulary_count,
            can=self._can,
            gpu_layers=self._fit.gpu_layers,
        )

    @property
    def busy(self) -> bool:
        return bool(self._running or self._waiting)

    @property
    def running_ids(self) -> set[int]:
        """The tasks that have a slot."""
        return {sequence.task_id for sequence in self._running}

    def begin(self, task: Task) -> list[Answer]:
        try:
            ongoing = self._intake.read(task)
        except TaskRefused as no:
            return [no.told(task.id)]
        if not ongoing.sequences:
            ends: list[Event] = [Finish("length", index) for index in range(ongoing.open_count)]
            return [Output(id=task.id, events=[*ends, ongoing.usage(time.monotonic())], last=True)]
        self._ongoing[task.id] = ongoing
        catch_up(task.principal, (*self._waiting, *self._running), self._served_count)
        self._waiting += ongoing.sequences
        return []

    def cancel(self, task_id: int) -> None:
        ongoing = self._ongoing.pop(task_id, None)
        if ongoing is None:
            return
        for sequence in ongoing.sequences:
            self._release(sequence)
        self._waiting = [sequence for sequence in self._waiting if sequence.task_id != task_id]

    def step(self) -> list[Answer]:
        self._admit()
        chosen = self._dressed_alike()
        if not chosen:
            return []
        answers = [] if self._blocks is None else self._seen(self._blocks, chosen)
        chosen = [sequence for sequence in chosen if sequence.slot is not None]
        # Made-up tokens are nothing to guess from.
        self._drafter.guess([one for one in chosen if one.decoding and not one.blocks])
        shares = batch.divide(chosen, self._pace, self._context.batch_count)
        if not shares:
            return answers
        for share in shares:
            if not share.writes:
                ongoing = self._ongoing[share.sequence.task_id]
                ongoing.computing_s = ongoing.computing_s or time.monotonic()
        begun_s = time.monotonic()
        try:
            batch.decode(shares, self._context, self._slots)
        except DecodeFailed as error:
            return answers + self._one_by_one(shares, error)
        answers += self._advanced(shares)
        self._learn(shares, time.monotonic() - begun_s)
        return answers

    def _seen(self, blocks: Blocks, chosen: list[Sequence]) -> list[Answer]:
        """Go on with images and sound; the refusal of a task that has one that cannot be computed."""
        for sequence in chosen:
            if sequence.block is not None:
                ongoing = self._ongoing[sequence.task_id]
                ongoing.computing_s = ongoing.computing_s or time.monotonic()
        try:
            sequence_seen = blocks.compute(chosen, self._running)
        except BlockFailed as failed:
            return [self._give_up(failed.sequence.task_id, str(failed))]
        if sequence_seen is None:
            blocks.wait(self._running)
        return []

    def idle(self) -> bool:
        """Do a little that is useful later.  Returns whether there was anything to do."""
        return self._slots.save_one() or self._slots.thin_out()

    def _admit(self) -> None:
        """Open waiting sequences while there is room, but for those whose prompt another is computing."""
        if not self._waiting or not self._slots.free_count:
            return
        for sequence in list(in_line(self._waiting, self._running, self._served_count)):
            if not self._slots.free_count:
                return
            if not self._slots.should_wait(sequence) and not self._forks_later(sequence):
                self._waiting.remove(sequence)
                self._slots.open(sequence)
                self._started(sequence)

    def _forks_later(self, sequence: Sequence) -> bool:
        """Whether it is a further choice of a prompt that is being computed."""
        if sequence.leads:
            return False
        before = self._ongoing[sequence.task_id].sequences[: sequence.index]
        leader = next(one for one in reversed(before) if one.leads)
        return leader.slot is not None and not leader.decoding

    def _started(self, sequence: Sequence) -> None:
        """A sequence has got its slot."""
        self._running.append(sequence)
        if sequence.leads:
            self._ongoing[sequence.task_id].cached_count += sequence.cached_tokens_count

    def _dressed_alike(self) -> list[Sequence]:
        """The sequences that compute together now: those with the adapters of the one that waited longest."""
        if not self._running:
            return []
        worn = self._running[0].adapters
        chosen = [sequence for sequence in self._running if sequence.adapters == worn]
        if len(chosen) < len(self._running):  # the others are next
            self._running = [one for one in self._running if one.adapters != worn] + chosen
        self._adapters.wear(self._context, worn)
        return chosen

    def _one_by_one(self, shares: list[Share], error: DecodeFailed) -> list[Answer]:
        """Compute a failed step's sequences each by itself: the one at fault takes no other along."""
        if len(shares) == 1:
            return [self._give_up(shares[0].sequence.task_id, f"decoding failed: {error}")]
        answers: list[Answer] = []
        for share in shares:
            if share.sequence.slot is None:  # another choice of its task has just failed
                continue
            if share.writes and not share.sequence.computed_count:
                answers.append(self._give_up(share.sequence.task_id, f"decoding failed: {error}"))
                continue
            alone = Share(share.sequence, share.count, 0, share.writes)
            try:
                batch.decode([alone], self._context, self._slots)
            except DecodeFailed as reason:
                answers.append(self._give_up(share.sequence.task_id, f"decoding failed: {reason}"))
            else:
                answers += self._advanced([alone])
        return answers

    def _advanced(self, shares: list[Share]) -> list[Answer]:
        """Choose the next token of every sequence that can have one; gather what shows, by task."""
        shown: dict[int, list[Event]] = {}
        failed: list[Answer] = []
        for share in shares:
            if share.sequence.slot is None:  # another choice of its task has just failed
                continue
            try:
                for sequence, events in self._chosen(share):
                    shown.setdefault(sequence.task_id, []).extend(events)
            except TaskRefused as no:
                task_id = share.sequence.task_id
                shown.pop(task_id, None)
                self.cancel(task_id)
                failed.append(no.told(task_id))
        outputs = [self._output(task_id, events) for task_id, events in shown.items()]
        return [*failed, *(output for output in outputs if output is not None)]

    def _chosen(self, share: Share) -> list[tuple[Sequence, list[Event]]]:
        """What a share's sequence says now; behind a prompt, also what its siblings say."""
        sequence = share.sequence
        if share.writes:
            return [(sequence, self._written(share))]
        ends_prompt = share.ends_prompt
        before = self._prompt_scored(share) if sequence.prompt_scores is not None else []
        sequence.computed_count += share.count
        if not ends_prompt:
            return []
        ongoing = self._ongoing[sequence.task_id]
        ongoing.first_s = ongoing.first_s or time.monotonic()
        entry = share.entry + share.count - 1
        siblings = self._siblings(sequence)
        unrestricted = self._context.logits(entry).copy() if siblings else None
        for sibling in siblings:  # first: the leader's cells may go with its first words
            self._waiting.remove(sibling)
            self._slots.fork(sequence, sibling)
            self._started(sibling)
        said = [(sequence, before + self._first_words(sequence, entry))]
        for sibling in siblings:
            self._context.logits(entry)[:] = unrestricted
            told = (
                [] if sequence.prompt_scores is None else sibling.voice.prompt_scores(sequence.prompt_scores)
            )
            said.append((sibling, told + self._first_words(sibling, entry)))
        return said

    def _siblings(self, leader: Sequence) -> list[Sequence]:
        """The waiting choices of the same prompt for which there are slots."""
        if not leader.leads:
            return []
        sequences = self._ongoing[leader.task_id].sequences
        start = sequences.index(leader) + 1
        same: list[Sequence] = []
        for sequence in sequences[start : start + self._slots.free_count]:
            if sequence.leads:
                break
            if sequence in self._waiting:
                same.append(sequence)
        return same

    def _prompt_scored(self, share: Share) -> list[Event]:
        """Score the prompt's tokens of a share; with its last, say so."""
        sequence = share.sequence
        if sequence.prompt_scores is None:
            return []
        at = sequence.computed_count
        if not at:
            sequence.prompt_scores.append(TokenScore(self._weights.shown_piece(sequence.tokens[0]), None))
        for i, token in enumerate(sequence.tokens[at + 1 : at + 1 + share.count]):
            logits = self._context.logits(share.entry + i)
            sequence.prompt_scores.append(scored(logits, token, sequence.top_count or 0, self._weights))
        return sequence.voice.prompt_scores(sequence.prompt_scores) if share.ends_prompt else []

    def _first_words(self, sequence: Sequence, entry: int) -> list[Event]:
        """Choose the first token behind a prompt."""
        if sequence.limit_count <= 0:
            events, last = sequence.voice.end("length"), True
        else:
            events, last = self._take(sequence, entry)
        if last:
            self._close_choice(sequence)
        return events

    def _written(self, share: Share) -> list[Event]:
        """Choose a token, and as many more as were guessed right."""
        sequence, drafts = share.sequence, share.sequence.drafts
        sequence.drafts = []
        tried_count = sequence.computed_count + share.count
        sequence.computed_count += 1
        events: list[Event] = []
        last, accepted_count = False, 0
        for offset in range(share.count):
            said, last = self._take(sequence, share.entry + offset)
            events += said
            if last or offset == len(drafts) or sequence.tokens[-1] != drafts[offset]:
                break
            accepted_count += 1
            sequence.computed_count += 1
        if sequence.computed_count < tried_count:
            self._context.cut(sequence.slot or 0, sequence.computed_count)
        ongoing = self._ongoing[sequence.task_id]
        ongoing.drafted_count += len(drafts)
        ongoing.accepted_count += accepted_count
        if last:
            self._close_choice(sequence)
        return events

    def _take(self, sequence: Sequence, entry: int) -> tuple[list[Event], bool]:
        """Choose one token; what it shows, and whether it was the last."""
        score = None
        if sequence.forced:
            token = sequence.forced.popleft()
            sequence.sampler.accept(token)
        elif sequence.top_count is None:
            token = sequence.sampler.choose(self._context, entry)
        else:
            token, score = sequence.sampler.choose_scored(
                self._context, entry, sequence.top_count, self._weights
            )
        return sequence.take(token, score, ends=self._weights.ends(token))

    def _close_choice(self, sequence: Sequence) -> None:
        self._release(sequence)
        ongoing = self._ongoing[sequence.task_id]
        ongoing.answer_count += sequence.generated_count
        ongoing.open_count -= 1

    def _output(self, task_id: int, events: list[Event]) -> Output | None:
        ongoing = self._ongoing[task_id]
        if not ongoing.open_count:
            del self._ongoing[task_id]
            return Output(id=task_id, events=[*events, ongoing.usage(time.monotonic())], last=True)
        return Output(id=task_id, events=events) if events else None

    def _learn(self, shares: list[Share], took_s: float) -> None:
        """Remember how long it took, and for whom."""
        counts = {True: 0, False: 0}
        for share in shares:
            counts[share.writes] += share.count
            self._served_count[share.sequence.principal] += share.count
        self._pace.note(took_s, counts[True], counts[False])

    def _release(self, sequence: Sequence) -> None:
        """Give slot and sampler back.  Waiting sequences hold only a sampler."""
        if sequence.slot is not None:
            self._running.remove(sequence)
            self._drafter.forget(sequence)
            self._slots.close(sequence)
        sequence.sampler.close()

    def _give_up(self, task_id: int, reason: str) -> Refused:
        """End a task that cannot go on."""
        self.cancel(task_id)
        return Refused(id=task_id, code="backend_error", message=reason)

    def close(self) -> None:
        for task_id in list(self._ongoing):
            self.cancel(task_id)
        self._slots.save_all(time.monotonic() + _SAVING_S)
        self._intake.close()
        self._drafter.close()
        if self._blocks is not None and not self._blocks.close():
            return  # a thread computes yet: the process's end frees what it uses
        self._context.close()
        self._weights.close()
