"""Tokens guessed ahead by a small model of the same vocabulary.

It reads what the model's sequences say, in a context of its own, and goes on greedily for a few tokens.  What
it guessed wrongly is cut out of its memory before it guesses again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
import numpy as np

from hybrid_router.engines.llama.context import Context, DecodeFailed, Entry, Logits
from hybrid_router.engines.llama.drafting.kinship import check_kin
from hybrid_router.engines.llama.fit import ALL_LAYERS, Fit
from hybrid_router.engines.llama.sequence import Sequence
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.settings import LlamaSettings, Offload

# It stops where its guess as a whole is less likely than this, in its own opinion.  A guess costs the draft
# model's step and about half of one of the model's where a CPU computes (measured: two cores, a batch of 2
# takes 1.4 times as long as one token, of 4 twice, of 8 three times); what is rarer than that is no gain.
_LEAST_CHANCE = 0.6
_WORTH_COUNT = 32  # fewer tokens are read sooner than waited for


@dataclass(eq=False)
class _Place:
    """A sequence of the draft model's memory.

    Attributes:
        tokens: those in it, guesses among them.
        sure_count: of them, those that the sequence was seen to have.
        owner: whose it is now; None: nobody's, and a next one may begin alike.
        lost: it cannot follow its owner.
    """

    slot: int
    space: str = ""
    tokens: list[int] = field(default_factory=list)
    sure_count: int = 0
    owner: Sequence | None = None
    lost: bool = False


@dataclass(eq=False)
class _Turn:
    """One sequence in one step.

    Attributes:
        most_count: guesses that are wanted.
        entry: where the logits behind its last token are.
        chance: how likely all of its guesses are right.
    """

    sequence: Sequence
    place: _Place
    most_count: int
    entry: int = 0
    chance: float = 1.0

    @property
    def missing_count(self) -> int:
        """Tokens that are still to be read."""
        return len(self.sequence.tokens) - len(self.place.tokens)


class DraftModel:
    """Owns a draft model and its context.  `close` frees them."""

    def __init__(self, path: str, settings: LlamaSettings, model: Weights, found: Fit) -> None:
        """Open it.

        Raises:
            EngineFailed: the file cannot be used, or is no draft model for `model`; names it.
        """
        layers = ALL_LAYERS if found.gpu_layers else 0
        self._weights = Weights(path, Offload(layers=layers, split="none", main=settings.offload.main))
        check_kin(self._weights, model)
        self._model = model
        self._length = min(found.context, self._weights.trained_context)
        self._context = Context(
            self._weights,
            # What the cells of the model are held in may not suit this one's heads.
            msgspec.structs.replace(settings, path=path, key_type="f16", value_type="f16"),
            cells_count=self._length * found.parallel,
            sequences_count=found.parallel,
            batch_count=max(settings.prefill_chunk, found.parallel),
        )
        self._places = [_Place(slot) for slot in range(found.parallel)]  # the one left longest ago first

    def guess(self, asked: Iterable[tuple[Sequence, int]]) -> None:
        """Read on, and add at most so many guesses to the drafts of each sequence that is read to its end.

        Never fails: who cannot be read goes on without guesses.
        """
        turns: list[_Turn] = []
        for sequence, wanted_count in asked:
            most_count = min(wanted_count, self._length - len(sequence.tokens))
            place = self._place(sequence, turns) if most_count > 0 else None
            if place is not None and self._follows(place, sequence):
                turns.append(_Turn(sequence, place, most_count))
        try:
            ready = self._read(turns)
            while ready:
                ready = self._say(ready)
        except DecodeFailed:
            for turn in turns:
                self._lose(turn.place)

    def _read(self, turns: list[_Turn]) -> list[_Turn]:
        """Read a batch of what is missing, the shortest rests first.  Returns those read to the end."""
        entries: list[Entry] = []
        ready: list[_Turn] = []
        for turn in sorted(turns, key=lambda turn: turn.missing_count):
            place, tokens = turn.place, turn.sequence.tokens
            start = len(place.tokens)
            piece = tokens[start : start + self._context.batch_count - len(entries)]
            entries += [(token, start + i, place.slot, False) for i, token in enumerate(piece)]
            place.tokens += piece
            if piece and not turn.missing_count:
                entries[-1] = (*entries[-1][:3], True)
                turn.entry = len(entries) - 1
                ready.append(turn)
        if entries:
            self._context.decode(entries)
        return ready

    def _say(self, ready: list[_Turn]) -> list[_Turn]:
        """Guess one token more for each; compute behind those of which another is wanted, and return them."""
        entries: list[Entry] = []
        going: list[_Turn] = []
        for turn in ready:
            token = self._likeliest(turn)
            if token is None:
                continue
            turn.sequence.drafts.append(token)
            if len(turn.sequence.drafts) < turn.most_count:
                entries.append((token, len(turn.place.tokens), turn.place.slot, True))
                going.append(turn)
        for entry, turn in enumerate(going):
            turn.entry = entry
            turn.place.tokens.append(turn.sequence.drafts[-1])
        if entries:
            self._context.decode(entries)
        return going

    def _likeliest(self, turn: _Turn) -> int | None:
        """The next token; None: it is too unsure, or the end."""
        logits: Logits = self._context.logits(turn.entry)
        token = int(logits.argmax())
        turn.chance /= float(np.exp(logits - logits[token]).sum())
        if not turn.chance >= _LEAST_CHANCE:  # nor if the numbers are none
            return None
        if token >= self._model.vocabulary_count or self._model.ends(token) or self._weights.ends(token):
            return None
        return token

    def _follows(self, place: _Place, sequence: Sequence) -> bool:
        """Take what the sequence does not say out of its place.  Returns whether the rest can be read."""
        if place.lost:
            return False
        tokens = sequence.tokens
        count = min(_common_count(place.tokens, tokens, place.sure_count), len(tokens) - 1)
        rest = tokens[count:]
        # What is made up (an image's places), and what only the model's vocabulary has, cannot be read.
        known = min(rest) >= 0 and max(rest) < self._weights.vocabulary_count
        if not known or (count < len(place.tokens) and not self._context.cut(place.slot, count)):
            self._lose(place)
            return False
        del place.tokens[count:]
        place.sure_count = count
        return True

    def _place(self, sequence: Sequence, turns: list[_Turn]) -> _Place | None:
        """A sequence's place.  None: another that begins alike is just being read; it is shared later."""
        own = next((place for place in self._places if place.owner is sequence), None)
        if own is not None:
            return own
        alike = [place for place in self._places if place.space == sequence.space and place.tokens]
        there = [(_common_count(place.tokens, sequence.tokens), place) for place in alike]
        count, best = max(there, key=lambda found: found[0], default=(0, None))
        for turn in turns:
            if turn.sequence.space == sequence.space and turn.missing_count > 1:
                coming_count = _common_count(turn.sequence.tokens, sequence.tokens)
                if coming_count >= count + _WORTH_COUNT:
                    return None
        return self._taken(sequence, best if count >= _WORTH_COUNT else None, count)

    def _taken(self, sequence: Sequence, best: _Place | None, count: int) -> _Place:
        """Take a free place; `best` has the first `count` tokens already."""
        place = best
        if place is None or place.owner is not None:
            place = next(place for place in self._places if place.owner is None)
            self._empty(place)
            if best is not None:
                self._context.share(best.slot, place.slot, count)
                place.tokens = best.tokens[:count]
        place.owner, place.space, place.sure_count = sequence, sequence.space, 0
        return place

    def _lose(self, place: _Place) -> None:
        self._empty(place)
        place.lost = True

    def _empty(self, place: _Place) -> None:
        self._context.forget(place.slot)
        place.tokens, place.sure_count = [], 0

    def forget(self, sequence: Sequence) -> None:
        """A sequence is over.  What was read of it stays until another needs the place."""
        for place in self._places:
            if place.owner is sequence:
                place.owner, place.lost = None, False
                self._places.remove(place)
                self._places.append(place)
                return

    def close(self) -> None:
        """Free context and model."""
        self._context.close()
        self._weights.close()


def _common_count(one: list[int], other: list[int], sure_count: int = 0) -> int:
    """How many tokens both begin with; `sure_count` are known to be the same."""
    low, high = sure_count, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
