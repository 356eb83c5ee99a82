"""What attempts teach about the speed of their steps, kept across restarts."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from hybrid_router.core.backend import Load
from hybrid_router.core.errors import BackendTimeout
from hybrid_router.core.notes import Notes
from hybrid_router.dispatch.record import Attempt
from hybrid_router.routing.speed import Sample, Speed, learned

_KIND = "speed"
_DOUBTED_AFTER_S = 3600.0
_LOOK_EVERY_S = 60.0
_ENOUGH_COUNT = 30.0
_SOON_S = 0.1


class Began(Struct, frozen=True, kw_only=True):
    """What is known of an attempt only when it begins.

    Attributes:
        prompt_tokens: estimated; 0 where nothing depends on them.
        ahead_tokens: estimated, of prompts that its model had still to compute.
        queued: all places were taken.
        max_tokens: of a choice of the answer; None: no limit.
        even: its first event comes no later for a longer prompt, see `core.backend.EVEN`.
    """

    prompt_tokens: int = 0
    ahead_tokens: int = 0
    queued: bool = False
    max_tokens: int | None = None
    even: bool = False


NOTHING = Began()


def sample(row: Attempt, wall_s: float, began: Began = NOTHING) -> Sample | None:
    """What a finished attempt says about speed; None: nothing.

    One choice that was answered from its start says all.  One that was given up before its first token, by a
    hedge that won or by its timer, says that it took longer than that.

    Args:
        wall_s: when it ended, Unix time.
    """
    if row.mode != "fresh" or row.choices_count != 1 or row.ended_s is None:
        return None
    lasted_s = row.ended_s - row.started_s
    if row.outcome == "answered" and row.usage is not None and row.first_event_s is not None:
        usage = row.usage
        return Sample(
            at_s=wall_s,
            prompt_tokens=0 if began.even else usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            first_token_s=row.first_event_s - row.started_s,
            total_s=lasted_s,
            depth=row.depth,
            loading=row.loading,
            queued=began.queued,
            max_tokens=began.max_tokens,
            estimated_tokens=began.prompt_tokens,
            ahead_tokens=began.ahead_tokens,
            queue_s=usage.queue_s,
            prefill_s=usage.prefill_s,
            decode_s=usage.decode_s,
        )
    if row.first_event_s is None and (row.outcome == "cancelled" or row.error == BackendTimeout.code):
        return Sample(
            at_s=wall_s,
            prompt_tokens=0,
            completion_tokens=0,
            first_token_s=lasted_s,
            total_s=lasted_s,
            answered=False,
            depth=row.depth,
            loading=row.loading,
            queued=began.queued,
            estimated_tokens=began.prompt_tokens,
            ahead_tokens=began.ahead_tokens,
        )
    return None


class Speeds:
    """The speeds of all steps, learned from attempts.

    Attributes:
        by_step: step → what was learned of it; grows and changes with every attempt.
    """

    def __init__(self, notes: Notes | None, wall: Callable[[], float]) -> None:
        """`wall` tells Unix time; without `notes` nothing outlives the process."""
        self.by_step: dict[str, Speed] = {}
        self._notes = notes
        self._wall = wall
        self._changed: set[str] = set()
        self._looked_s = 0.0
        self._running: dict[int, tuple[Attempt, Began]] = {}  # by the row's identity, which lasts that long

    def began(
        self, row: Attempt, load: Load, prompt_tokens: int, max_tokens: int | None, *, even: bool = False
    ) -> None:
        """An attempt begins; its row tells depth, and whether it waits and its model is loaded.

        Args:
            load: of its model, without this attempt.
            prompt_tokens: estimated.
            max_tokens: of a choice of the answer, the backend's default included; None: no limit.
            even: see `Began`.
        """
        queued = load.parallel is not None and load.running_count >= load.parallel
        row.queued = queued
        row.depth = load.running_count + (0 if queued else 1)
        row.loading = load.loading
        self._running[id(row)] = (
            row,
            Began(
                prompt_tokens=0 if even else prompt_tokens,
                ahead_tokens=self.ahead_tokens(row.step),
                queued=queued,
                max_tokens=max_tokens,
                even=even,
            ),
        )

    def ahead_tokens(self, step: str) -> int:
        """Estimated tokens of prompts that the step has still to compute, for `Load.ahead_tokens`."""
        return sum(
            began.prompt_tokens
            for row, began in self._running.values()
            if row.first_event_s is None and row.step == step
        )

    def ended(self, row: Attempt, *, local: bool, parallel: int | None = None) -> None:
        """An attempt is over: learn from it.  One that was never begun is fine.

        Args:
            parallel: see `Load`; where the model was loaded for it, this shows only now.
        """
        _, began = self._running.pop(id(row), (row, NOTHING))
        if parallel is not None and row.depth > parallel:
            row.depth, began = parallel, replace(began, queued=True)
        step, now_s = row.step, self._wall()
        known = self.by_step.get(step)
        if known is not None and known.sample_count > _ENOUGH_COUNT and 0 <= now_s - known.at_s < _SOON_S:
            return  # hundreds a second teach no more than ten, and learning is a tenth of a call
        taken = sample(row, now_s, began)
        if taken is not None:
            self.learn(step, taken, local=local)

    def learn(self, step_name: str, taken: Sample, *, local: bool) -> None:
        """Add a sample to what is known of a step."""
        self.by_step[step_name] = learned(self.by_step.get(step_name), taken, local=local)
        self._changed.add(step_name)
        self._doubt()

    def _doubt(self) -> None:
        """Give steps that were not measured for long the benefit of the doubt, see `routing.order`."""
        now_s = self._wall()
        if abs(now_s - self._looked_s) < _LOOK_EVERY_S:
            return
        self._looked_s = now_s
        for step_name, speed in self.by_step.items():
            if not speed.doubted and now_s - speed.at_s > _DOUBTED_AFTER_S:
                self.by_step[step_name] = replace(speed, doubted=True)

    async def load(self) -> None:
        """Remember what was saved, but for what was learned since.  What cannot be read is learned anew.

        Raises:
            OSError: the notes could not be read.
        """
        if self._notes is None:
            return
        for step_name, note in (await self._notes.load(_KIND)).items():
            try:
                speed = msgspec.json.decode(note, type=Speed)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
            self.by_step.setdefault(step_name, speed)
        self._doubt()

    async def save(self) -> None:
        """Write down what has changed.  To be called every minute or so.

        Raises:
            OSError: it could not be written; it is tried again the next time.
        """
        self._doubt()
        if self._notes is None or not self._changed:
            return
        changed, self._changed = self._changed, set()
        notes = {step_name: msgspec.json.encode(self.by_step[step_name]) for step_name in changed}
        try:
            await self._notes.save(_KIND, notes)
        except OSError:
            self._changed |= changed
            raise
