"""One decode step: what it computes, and what is done when it does not fit or fails."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hybrid_router.engines.llama.context import Context, DecodeFailed, Entry
from hybrid_router.engines.llama.schedule import Pace, divided
from hybrid_router.engines.llama.sequence import Sequence
from hybrid_router.engines.llama.slots import Slots

ECHO_TOKENS = 64  # of a prompt whose every token's logits are wanted: each takes memory


@dataclass(frozen=True)
class Share:
    """What one sequence gets of a step: `count` of its tokens, the first `entry` entries being others'.

    `writes`: it is a token that was chosen, and guesses of those behind it.
    """

    sequence: Sequence
    count: int
    entry: int
    writes: bool

    @property
    def ends_prompt(self) -> bool:
        """Whether its next token can be chosen behind this step."""
        sequence = self.sequence
        return self.writes or sequence.computed_count + self.count == sequence.prompt_count

    def entries(self) -> list[Entry]:
        """Token, position, slot, and whether logits are wanted, for each."""
        sequence = self.sequence
        slot, start = sequence.slot or 0, sequence.computed_count
        every = self.writes or sequence.prompt_scores is not None
        tokens = (sequence.tokens + sequence.drafts)[start : start + self.count]
        out = [(token, start + i, slot, every) for i, token in enumerate(tokens)]
        if self.ends_prompt:
            out[-1] = (*out[-1][:3], True)
        return out


def divide(running: Iterable[Sequence], pace: Pace, most_count: int) -> list[Share]:
    """A token (and guesses) for every sequence that writes; for prompts what does not slow them too much."""
    parts = [(sequence, 1 + len(sequence.drafts), True) for sequence in running if sequence.decoding]
    writers_count = sum(count for _, count, _ in parts)
    readers = [sequence for sequence in running if not sequence.decoding]
    if readers:
        most_count -= writers_count
        if any(sequence.prompt_scores is not None for sequence in readers):
            most_count = min(most_count, ECHO_TOKENS)
        counts = divided(readers, pace.prompt_tokens(writers_count, most_count))
        parts += [
            (reader, reader.before_pause(count), False)
            for reader, count in zip(readers, counts, strict=True)
            if count
        ]
    shares, entry = [], 0
    for sequence, count, writes in parts:
        shares.append(Share(sequence, count, entry, writes))
        entry += count
    return shares


def decode(shares: list[Share], context: Context, slots: Slots) -> None:
    """Compute a step.  What is kept for later calls gives way if the KV cache is full.

    Raises:
        DecodeFailed: the step did not work; its sequences have the cells that they had before, or, where
            memory cannot be shortened, none.
    """
    entries = [entry for share in shares for entry in share.entries()]
    while True:
        try:
            context.decode(entries)
        except DecodeFailed as error:
            if error.no_room and slots.make_room():
                continue
            for share in shares:
                slot = share.sequence.slot or 0
                if not context.cut(slot, share.sequence.computed_count):
                    context.forget(slot)  # its memory has moved on, and cannot be taken back
                    share.sequence.computed_count = 0
            raise
        for share in shares:
            slots.keep_copy(share.sequence, share.sequence.computed_count + share.count)
        return
