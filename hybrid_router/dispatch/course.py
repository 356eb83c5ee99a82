"""The course of one call: which step is next, and what a failure means for the rest.  Runs nothing."""

from __future__ import annotations

from copy import copy
from http import HTTPStatus

from msgspec import Struct

from hybrid_router.core.call import Call
from hybrid_router.core.errors import (
    BackendError,
    BackendTimeout,
    BrokenByCall,
    ContextOverflow,
    Inexpressible,
    NoBackend,
    PrefillRefused,
    RouterError,
    StreamBroken,
)
from hybrid_router.core.step import LeftOut, Step
from hybrid_router.dispatch import continuation, retry
from hybrid_router.dispatch.continuation import Interrupted, Shown
from hybrid_router.dispatch.gate import Gate
from hybrid_router.dispatch.record import Attempt, Mode, Record

_MOST_BREAKS = 3  # of one answer: what breaks a fourth time is better told than tried


class Turn(Struct, frozen=True, kw_only=True):
    """A step to be attempted next, after `pause_s`."""

    step: Step
    mode: Mode = "fresh"
    retry: int = 0
    pause_s: float = 0.0


class Course:
    """One call's way through its plan.

    Attributes:
        deadline_s: of the call, on the loop's clock.
        running: the attempt whose answer the client is given, or will be.
        interrupted: what the client has, once a stream broke; None before.
        shown: every batch that a streaming client was given.
    """

    def __init__(self, call: Call, record: Record, gate: Gate, deadline_s: float) -> None:
        self.interrupted: Interrupted | None = None
        self.shown: Shown = []
        self.deadline_s = deadline_s
        self.running: tuple[Turn, Attempt]
        self.call = call
        self.record = record
        self.gate = gate
        self._turns = [Turn(step=step) for step in record.plan.steps]
        self._failures: list[tuple[Step, RouterError]] = []
        self._break_count = 0
        self._told_chars = 0

    def next(self, now_s: float) -> Turn | None:
        """The next turn that fits into what is left of the deadline; None: it is over."""
        while self._turns and now_s < self.deadline_s:
            turn = self._turns.pop(0)
            predicted, left_s = turn.step.predicted, self.deadline_s - now_s
            if predicted is None or predicted.first_token_s is None or predicted.first_token_s <= left_s:
                return turn
            because = (
                f"its first token is expected after {predicted.first_token_s:.3g} s, {left_s:.3g} s are left"
            )
            self.record.skipped.append(LeftOut(step=turn.step.name, because=because))
        return None

    def begin(self, turn: Turn, now_s: float) -> Attempt:
        """The row of an attempt that starts now, and is the one that answers."""
        row = self._row(turn, now_s)
        self.answers(turn, row)
        return row

    def begin_beside(self, rival: Turn, now_s: float) -> Attempt:
        """The row of a hedge that starts now.  Its step is no fallback any more."""
        self._turns.remove(rival)
        row = self._row(rival, now_s)
        row.hedge = True
        return row

    def _row(self, turn: Turn, now_s: float) -> Attempt:
        row = Attempt(
            backend=turn.step.backend,
            model=turn.step.model,
            started_s=now_s,
            choices_count=self.call.choices_count,
            streams=self.call.stream,
            mode=turn.mode,
            retry=turn.retry,
        )
        self.record.attempts.append(row)
        return row

    def answers(self, turn: Turn, row: Attempt) -> None:
        """From here on this attempt is the one whose answer the client is given, or whose error counts."""
        self.running = turn, row
        self.record.serving = row

    def rival(self, turn: Turn) -> Turn | None:
        """The turn to hedge with: the next step, at the first attempt, if it is known when to start it."""
        first = turn.step.predicted
        if not self.record.plan.treatment.hedge or not self._turns or len(self.record.attempts) > 1:
            return None
        return None if first is None or first.first_token_p90_s is None else self._turns[0]

    def lost(self, turn: Turn, error: RouterError) -> None:
        """One of two that ran side by side failed; the other goes on."""
        self._failures.append((turn.step, error))

    def failed(self, error: RouterError, now_s: float, chance: float) -> None:
        """Note a failure of what is running, and decide what comes next.

        Args:
            chance: from 0 to 1, for the jitter of a retry.

        Raises:
            RouterError: nothing does.
        """
        turn, row = self.running
        if isinstance(error, BrokenByCall):
            self.note_part()
            raise error
        if isinstance(error, StreamBroken):
            self._broken(turn, row, error)
        elif isinstance(error, PrefillRefused) and turn.mode == "prefill":
            self._turns.insert(0, Turn(step=turn.step, mode="replay"))
        elif isinstance(error, BackendError | ContextOverflow) or self.interrupted is not None:
            self._failures.append((turn.step, error))
            if isinstance(error, ContextOverflow):
                self._turns = [later for later in self._turns if _is_larger(later.step, turn.step)]
            elif isinstance(error, BackendError):
                self._again(turn, error, now_s, chance)
        else:
            raise error

    def _broken(self, turn: Turn, row: Attempt, error: StreamBroken) -> None:
        """A stream broke after the client had seen some of it."""
        self._failures.append((turn.step, error))
        self._break_count += 1
        interrupted = self.interrupted = Interrupted(self.shown)
        self.note_part()
        why_not = continuation.why_not(self.call, self.record.plan.treatment, interrupted)
        if why_not is not None or self._break_count > _MOST_BREAKS:
            error.detail = "; ".join(word for word in (error.detail, why_not) if word)
            raise error
        later = [one.step for one in self._turns if one.step != turn.step]
        again = [] if row.diverged_at_char is not None else [turn.step]
        self._turns = [self._continuing(step) for step in (*later, *again)]

    def _continuing(self, step: Step) -> Turn:
        """The turn that takes the answer up where it broke."""
        interrupted = self.interrupted
        assert interrupted is not None  # noqa: S101 - set by the only caller
        if not interrupted.text:
            return Turn(step=step, mode="replay")
        taken_up = continuation.taken_up(self.call, interrupted, "prefill")
        able = self.call.response_format is None and self.gate.continues(taken_up, step)
        return Turn(step=step, mode="prefill" if able else "replay")

    def _again(self, turn: Turn, error: BackendError, now_s: float, chance: float) -> None:
        """Put the same step in front once more, if that makes sense and fits."""
        treatment = self.record.plan.treatment
        wait_s = retry.pause_s(error, turn.retry, treatment, self.deadline_s - now_s, chance)
        if wait_s is not None and self.gate.take_retry():
            self._turns.insert(0, Turn(step=turn.step, mode=turn.mode, retry=turn.retry + 1, pause_s=wait_s))

    def note_part(self) -> None:
        """Name the part of the client's text that this attempt wrote, if there is more than one part."""
        if self.interrupted is None:
            return
        _, row = self.running
        end = len(Interrupted(self.shown).text)
        row.begin_char, row.end_char = self._told_chars, end
        self._told_chars = end

    def over(self) -> RouterError:
        """The error of a call that nobody answered whole, its message naming every step's."""
        if not self._failures:
            return self._never_tried()
        failures = [failure for _, failure in self._failures]
        # A step that may do better in a moment counts before one that only lacks a word for the call.
        last = copy(next((f for f in reversed(failures) if not _is_of_the_call(f)), failures[-1]))
        if len(self._failures) > 1:
            said = "; ".join(dict.fromkeys(_said(step, failure) for step, failure in self._failures))
            count = len({step.name for step, _ in self._failures})
            steps = f"all {count} steps" if count > 1 else f"all {len(self._failures)} attempts"
            last.message = f"{steps} failed: {said}"
        if self.interrupted is None or isinstance(last, StreamBroken):
            return last
        return StreamBroken(last.message, detail=last.detail)

    def _never_tried(self) -> RouterError:
        why = "; ".join(f"{skipped.step}: {skipped.because}" for skipped in self.record.skipped)
        if why:
            return BackendTimeout(f"no step can answer in the time that the call has ({why})")
        return NoBackend("no backend may serve this call")


def _is_of_the_call(failure: RouterError) -> bool:
    return isinstance(failure, Inexpressible) and failure.status < HTTPStatus.INTERNAL_SERVER_ERROR


def _said(step: Step, failure: RouterError) -> str:
    """What a step said, after its name, which some say themselves."""
    return failure.message if failure.message.startswith(step.name) else f"{step.name}: {failure.message}"


def _is_larger(step: Step, than: Step) -> bool:
    """Whether a prompt that overflowed one step's context may fit another's."""
    return step.context is None or than.context is None or step.context > than.context
