"""Who holds which KV cells: sequences that are computed, and those that are kept for the next call.

A prompt is computed once.  What another sequence of the same space has computed of it is shared without
copying; what is being computed right now is waited for; what had to leave the KV cache comes back from
`Kept`.  The index knows every prompt from its first token on, computed or not.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

from hybrid_router.engines.llama.context import Context
from hybrid_router.engines.llama.prefix.kept import Kept, Key
from hybrid_router.engines.llama.prefix.radix import Radix
from hybrid_router.engines.llama.sequence import Sequence

# Fewer tokens are computed sooner than waited for, moved or stored.
_WORTH_COUNT = 32
_MOST_MOVED_BYTES = 128 << 20  # at a time: whoever begins waits for it, some 20 ms
_STATE_OVERHEAD_BYTES = 1 << 16  # its tokens, and what it is found by
# Tokens that templates write to begin an answer: a prompt that repeats the conversation has others there.
_OPENING_COUNT = 8


@dataclass
class _Retained:
    """A sequence that nobody computes with.  `saved`: it need not be put on disk (again)."""

    space: str
    tokens: list[int]
    private: bool
    saved: bool = False


class Slots:
    """Owns the context's sequences, which it calls slots.

    `live_count` of them are for running tasks.  `whole_only`: memory can neither be cut nor shared in part,
    so that only a whole retained sequence is of use.
    """

    def __init__(
        self, context: Context, kept: Kept, *, live_count: int, whole_only: bool, on_disk: bool = False
    ) -> None:
        """`on_disk`: some of what is kept outlives this process."""
        self._context = context
        self._kept = kept
        self._on_disk = on_disk
        self._live_count = live_count
        self._whole_only = whole_only
        self._free = deque(range(context.sequences_count))
        self._indexes: dict[str, Radix[int]] = {}
        self._live: dict[int, Sequence] = {}
        self._retained: OrderedDict[int, _Retained] = OrderedDict()  # the one used longest ago first

    @property
    def free_count(self) -> int:
        """How many more sequences may be opened."""
        return self._live_count - len(self._live)

    @property
    def retained_count(self) -> int:
        """How many sequences are kept in the KV cache for the next call."""
        return len(self._retained)

    def should_wait(self, sequence: Sequence) -> bool:
        """Whether a running sequence computes what this one would have to compute again.

        Who waits, waits for the last of it, and the one that computes it is told: so what is left of all of
        them is in one step.
        """
        index = self._indexes.get(sequence.space)
        if index is None or sequence.prompt_scores is not None or self._whole_only:
            return False
        ready_count, _ = self._shared(sequence)
        for matched_count, slot in index.matches(sequence.tokens[:-1]):
            common_count = sequence.whole(matched_count)
            if common_count <= ready_count:
                break
            leader = self._live.get(slot)
            if leader is None or common_count - leader.cached_count < _WORTH_COUNT:
                continue
            if leader.computed_count == leader.parting_count and common_count - ready_count < _WORTH_COUNT:
                continue  # others part here, and what more there is in common is soon computed
            nearer = leader.computed_count < leader.parting_count < common_count
            leader.parting_count = leader.parting_count if nearer else common_count
            return True
        return False

    def _shared(self, sequence: Sequence) -> tuple[int, int | None]:
        """Tokens that can be shared now, and with whom."""
        ready_count, source = 0, None
        index = self._indexes.get(sequence.space)
        if index is None:
            return 0, None
        for common_count, slot in index.matches(sequence.tokens[:-1]):
            if common_count <= ready_count:
                break
            computed_count = self._computed_count(slot)
            count = sequence.whole(min(common_count, computed_count))
            if self._whole_only and (slot in self._live or common_count < computed_count):
                continue
            if count > ready_count and self._context.reaches(slot, count):
                ready_count, source = count, slot
        return ready_count, source

    def _computed_count(self, slot: int) -> int:
        live = self._live.get(slot)
        return live.computed_count if live is not None else len(self._retained[slot].tokens)

    def open(self, sequence: Sequence) -> None:
        """Give a sequence a slot, with as much of its prompt as is there already."""
        if sequence.prompt_scores is not None:  # every token is computed, for its logits
            self._enter(sequence, self._take_slot(but=None), 0)
            return
        count, source = self._shared(sequence)
        slot = self._take_slot(but=source)
        # To make room for what is restored, what could be shared may have gone: it is looked for again.
        self._enter(sequence, slot, self._restore(sequence, slot, count) or self._share(sequence, slot))
        self._thin_out()

    def _share(self, sequence: Sequence, slot: int) -> int:
        """Have `slot` share what there is of a sequence's prompt; how many tokens that is."""
        count, source = self._shared(sequence)
        if source is None:
            return 0
        if source in self._retained:
            self._retained.move_to_end(source)
        self._context.share(source, slot, count)
        return count

    def thin_out(self) -> bool:
        """Move one sequence out of the way of whoever comes next.  Returns whether there was one.

        The newest stays: its conversation goes on, most likely.
        """
        crowd = self._crowd(but=next(reversed(self._retained), None))
        return bool(crowd) and self._moved(crowd[-1])

    def _thin_out(self) -> None:
        """Move to `Kept` what running sequences would only pass over, as far as memory is free there.

        Every step looks at every cell in use, whoever has it: measured with the starter model on two threads,
        a thousand cells of others cost 5 % of a step, moving them there and back as much as a step or two.
        Nor do numbers depend on what was asked before: how llama.cpp splits attention over threads depends on
        the cells in use.
        """
        room_bytes = _MOST_MOVED_BYTES
        for slot in reversed(self._crowd(but=None)):
            room_bytes -= self._context.state_bytes(slot)
            if room_bytes < 0 or not self._moved(slot):
                return

    def _moved(self, slot: int) -> bool:
        if self._context.state_bytes(slot) + _STATE_OVERHEAD_BYTES > self._kept.free_bytes:
            return False
        self._evict(slot)
        return True

    def _crowd(self, but: int | None) -> list[int]:
        """The retained sequences whose cells are mostly theirs alone, the one used last first."""
        if not self._context.parts_restore:
            return []
        used: dict[str, Radix[int]] = {}
        for slot, live in self._live.items():
            used.setdefault(live.space, Radix()).insert(slot, live.tokens)
        crowd = []
        for slot, retained in reversed(self._retained.items()):
            index = used.setdefault(retained.space, Radix())
            others_count = index.count
            index.insert(slot, retained.tokens)
            own_count = index.count - others_count
            # Brought back it would not share any more, so it stays if most of it is others' too.
            if slot != but and own_count >= max(_WORTH_COUNT, len(retained.tokens) // 2):
                crowd.append(slot)
        return crowd

    def fork(self, leader: Sequence, sibling: Sequence) -> None:
        """Give `sibling`, whose prompt is `leader`'s, a slot with all of it."""
        slot = self._take_slot(but=leader.slot)
        self._context.share(leader.slot or 0, slot, leader.prompt_count)
        self._enter(sibling, slot, leader.prompt_count)

    def _enter(self, sequence: Sequence, slot: int, count: int) -> None:
        sequence.slot = slot
        sequence.computed_count = sequence.cached_count = count
        self._live[slot] = sequence
        before_count = sequence.whole(sequence.prompt_count - _OPENING_COUNT)
        if self._whole_only and before_count - count >= _WORTH_COUNT:
            sequence.pause_count = before_count
        self._index(sequence.space).insert(slot, sequence.tokens[: sequence.prompt_count])

    def _index(self, space: str) -> Radix[int]:
        return self._indexes.setdefault(space, Radix())

    def _unlist(self, space: str, slot: int) -> None:
        index = self._indexes[space]
        index.remove(slot)
        if not len(index):  # calls may name any number of spaces
            del self._indexes[space]

    def _take_slot(self, but: int | None) -> int:
        """A free slot; `but` is not taken away for it."""
        if not self._free:
            oldest = next(slot for slot in self._retained if slot != but)
            self._evict(oldest)
        return self._free.popleft()

    def _restore(self, sequence: Sequence, slot: int, count: int) -> int:
        """Bring a stored state back if it has clearly more than `count` tokens; how many there are then."""
        stored = self._stored(sequence, count)
        if stored is None:
            return 0
        found_count, key = stored
        fetched = self._kept.fetch(key)
        if fetched is None:
            return 0
        tokens, state = fetched
        while not self._context.restore(slot, state):
            if self.make_room():
                continue
            if not self._live:  # nor is it for want of room
                self._kept.drop(key)
            return 0
        if found_count < len(tokens) and not self._context.cut(slot, found_count):
            self._context.forget(slot)
            return 0
        return found_count

    def _stored(self, sequence: Sequence, count: int) -> tuple[int, Key] | None:
        """A stored state that is worth bringing back, and how many of its tokens are of use."""
        found = self._kept.best(sequence.space, sequence.tokens[:-1])
        if found is None:
            return None
        found_count = sequence.whole(found.count)
        if found_count < count + _WORTH_COUNT or not self._context.restores(found_count, found.length):
            return None
        return found_count, found.key

    def keep_copy(self, sequence: Sequence, computed_count: int) -> None:
        """Keep what a sequence remembers of its prompt, if so many computed tokens are where it pauses.

        Where only a whole sequence is of use, prompt and answer are of none to whoever wants the answer
        again, or another one.
        """
        slot = sequence.slot
        if slot is None or computed_count != sequence.pause_count:
            return
        sequence.pause_count = 0
        tokens = sequence.tokens[:computed_count]
        index = self._index(sequence.space)
        if self._is_covered(index, tokens, sequence) or not (self._free or self._retained):
            return
        copy = self._take_slot(but=None)
        self._context.share(slot, copy, computed_count)
        self._retain(copy, sequence, tokens)

    def _retain(self, slot: int, sequence: Sequence, tokens: list[int]) -> None:
        self._index(sequence.space).insert(slot, tokens)
        self._retained[slot] = _Retained(sequence.space, tokens, sequence.private)

    def close(self, sequence: Sequence) -> None:
        """Take a sequence's slot back.  Its cells are kept for the next call if they may be of use."""
        slot = sequence.slot
        if slot is None:
            return
        sequence.slot = None
        del self._live[slot]
        self._unlist(sequence.space, slot)
        tokens = sequence.tokens[: sequence.computed_count]
        # Of a step that failed half way there may be cells beyond them, which a stored state must not have.
        if len(tokens) < _WORTH_COUNT or not self._context.cut(slot, len(tokens)):
            self._free_slot(slot)
            return
        index = self._index(sequence.space)
        if self._is_covered(index, tokens, sequence):
            self._free_slot(slot)
            return
        self._drop_beginnings(index, tokens, sequence)
        self._retain(slot, sequence, tokens)

    def _is_covered(self, index: Radix[int], tokens: list[int], sequence: Sequence) -> bool:
        """Whether a retained sequence has all of `tokens`, and outlives this process if `sequence` would."""
        for count, slot in index.matches(tokens):
            if count < len(tokens):
                return False
            retained = self._retained.get(slot)
            if retained is None or (self._whole_only and len(retained.tokens) > count):
                continue
            if not self._on_disk or sequence.private or not retained.private:
                return True
        return False

    def _drop_beginnings(self, index: Radix[int], tokens: list[int], sequence: Sequence) -> None:
        """Free retained sequences that are beginnings of `tokens`: they have nothing of their own.

        Those stay that are to be put on disk, where the longer one may not go.
        """
        if self._whole_only:
            return
        for count, slot in list(index.matches(tokens)):
            retained = self._retained.get(slot)
            if retained is None or len(retained.tokens) != count:
                continue
            if not self._on_disk or retained.private or not sequence.private:
                self._forget(slot)

    def _forget(self, slot: int) -> None:
        """Let a retained sequence go."""
        self._unlist(self._retained.pop(slot).space, slot)
        self._free_slot(slot)

    def _free_slot(self, slot: int) -> None:
        self._context.forget(slot)
        self._free.append(slot)

    def _evict(self, slot: int) -> None:
        """Move a retained sequence out of the KV cache."""
        retained = self._retained[slot]
        self._put(slot, retained)
        self._forget(slot)

    def _put(self, slot: int, retained: _Retained) -> None:
        state = self._context.state(slot)
        self._kept.put(retained.space, retained.tokens, state, private=retained.private, saved=retained.saved)

    def make_room(self) -> bool:
        """Move the sequence that was used longest ago out of the KV cache.  Returns whether there was one."""
        if not self._retained:
            return False
        self._evict(next(iter(self._retained)))
        return True

    def save_one(self) -> bool:
        """Write one sequence to disk, if any is to be.  Returns whether one was written."""
        if not self._on_disk:
            return False
        if self._kept.save_one():  # first what leaves memory when more comes
            return True
        return any(self._saved(slot, retained) for slot, retained in reversed(self._retained.items()))

    def _saved(self, slot: int, retained: _Retained) -> bool:
        """Write a retained sequence to disk.  Returns whether it was to be."""
        if retained.saved or retained.private:
            return False
        self._put(slot, retained)
        retained.saved = True
        self._kept.save_one()
        return True

    def save_all(self, until_s: float) -> None:
        """Write what is left to disk, what was used last first, until the monotonic clock says `until_s`."""
        if self._on_disk:
            for slot, retained in reversed(self._retained.items()):
                if self._kept.saves(self._context.state_bytes(slot), until_s):
                    self._saved(slot, retained)
        self._kept.close(until_s)
