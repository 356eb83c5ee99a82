"""What a policy would change, over many stored calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from hybrid_router.core.step import Prediction
from hybrid_router.dispatch.decision import Decision
from hybrid_router.dispatch.replay import Rehearsal, Replayed

_DECODER = msgspec.json.Decoder(Decision)


class Move(Struct, frozen=True, kw_only=True, rename={"was": "from", "now": "to"}):
    """Calls that would go to another first step."""

    was: str
    now: str
    count: int


class Change(Struct, frozen=True, kw_only=True):
    """Sums before and after, over the calls of which both are known."""

    before: float = 0.0
    after: float = 0.0
    count: int = 0

    def plus(self, before: float | None, after: float | None) -> Change:
        """With one more call."""
        if before is None or after is None:
            return self
        return Change(before=self.before + before, after=self.after + after, count=self.count + 1)


class Report(Struct, kw_only=True):
    """What a policy would change.

    Attributes:
        calls_count: records that could be read.
        moved_count, moves: calls that would go to another first step.
        undecidable_count: not among those: a rule asks for text or for a header that nobody kept.
        undecidable_rules: how often each such rule could not be judged.
        unreadable_count: records that this version does not understand.
        first_token_s, total_s: predictions of the first steps, at today's speeds.
        neurons: what calls were counted with, and what they would cost.
        leaving: ids of calls that were kept on this machine and would be sent elsewhere.
        may_leave: the same, where nobody can tell any more that they would not.
    """

    calls_count: int = 0
    moved_count: int = 0
    moves: tuple[Move, ...] = ()
    undecidable_count: int = 0
    undecidable_rules: dict[str, int] = {}
    unreadable_count: int = 0
    first_token_s: Change = Change()
    total_s: Change = Change()
    neurons: Change = Change()
    leaving: list[str] = []
    may_leave: list[str] = []


def report(documents: Iterable[bytes], rehearsal: Rehearsal) -> Report:
    """Plan every stored call again, and count."""
    made = Report()
    moves: Counter[tuple[str, str]] = Counter()
    for document in documents:
        try:
            decision = _DECODER.decode(document)
        except (msgspec.MsgspecError, UnicodeError):
            made.unreadable_count += 1
            continue
        replayed = rehearsal.replayed(decision)
        made.calls_count += 1
        if replayed.leaves:
            (made.may_leave if replayed.unknown else made.leaving).append(replayed.id)
        if replayed.unknown:
            _undecidable(made, replayed)
            continue
        if replayed.was != replayed.now:
            moves[replayed.was, replayed.now] += 1
        _compare(made, replayed)
    made.moves = tuple(Move(was=was, now=now, count=count) for (was, now), count in moves.most_common())
    made.moved_count = moves.total()
    return made


def _undecidable(made: Report, replayed: Replayed) -> None:
    made.undecidable_count += 1
    for rule in replayed.unknown:
        made.undecidable_rules[rule] = made.undecidable_rules.get(rule, 0) + 1


def _compare(made: Report, replayed: Replayed) -> None:
    before, after = replayed.before or Prediction(), replayed.after or Prediction()
    made.first_token_s = made.first_token_s.plus(before.first_token_s, after.first_token_s)
    made.total_s = made.total_s.plus(before.total_s, after.total_s)
    made.neurons = made.neurons.plus(replayed.neurons_before, replayed.neurons_after)
