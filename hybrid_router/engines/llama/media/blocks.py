"""The images and sound of running sequences: encoded beside the decode loop, computed between its steps."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Several

from hybrid_router.engines.llama.context import Context, DecodeFailed
from hybrid_router.engines.llama.media.block import Block
from hybrid_router.engines.llama.media.encoder import Encoder, Key
from hybrid_router.engines.llama.media.projector import EncodingFailed, Projector
from hybrid_router.engines.llama.sequence import Sequence
from hybrid_router.engines.llama.slots import Slots

_PATIENCE_S = 0.05  # a cancellation waits so long
_CLOSING_S = 30.0  # a child whose router is gone ends sooner


class BlockFailed(Exception):
    """An image or sound of a sequence cannot be computed."""

    def __init__(self, sequence: Sequence, reason: str) -> None:
        super().__init__(reason)
        self.sequence = sequence


class Blocks:
    """Computes blocks with one projector.  `close` ends its thread, then frees the projector."""

    def __init__(self, projector: Projector, context: Context, slots: Slots) -> None:
        self._projector = projector
        self._context = context
        self._slots = slots
        self._encoder = Encoder(projector.encode)

    def compute(self, chosen: Several[Sequence], running: Iterable[Sequence]) -> Sequence | None:
        """Compute one block of the sequences `chosen`, if one is encoded; whose it was.

        What any of `running` needs next is encoded meanwhile, one after the other.

        Raises:
            BlockFailed: it cannot be; other sequences are unaffected.
        """
        ahead = [(sequence, block) for sequence in running if (block := sequence.block_ahead)]
        self._encoder.want([(_key(sequence, block), block) for sequence, block in ahead])
        for sequence in chosen:
            block = sequence.block
            if block is not None and self._computed(sequence, block):
                return sequence
        return None

    def _computed(self, sequence: Sequence, block: Block) -> bool:
        try:
            vectors = self._encoder.vectors(_key(sequence, block))
        except EncodingFailed as error:
            raise BlockFailed(sequence, f"an image or sound could not be encoded: {error}") from None
        if vectors is None:
            return False
        while True:
            try:
                self._context.decode_block(self._projector, block, vectors, sequence.slot or 0)
            except DecodeFailed as error:
                self._context.cut(sequence.slot or 0, block.start)
                if error.no_room and self._slots.make_room():
                    continue
                raise BlockFailed(sequence, f"decoding an image or sound failed: {error}") from None
            sequence.computed_count = block.end
            self._slots.keep_copy(sequence, block.end)
            return True

    def wait(self, running: Iterable[Sequence]) -> None:
        """Wait a little for what is being encoded, if nobody can compute anything else."""
        if all(sequence.block is not None for sequence in running):
            self._encoder.wait(_PATIENCE_S)

    def close(self) -> bool:
        """Free what can be; whether that is everything: if not, the model must not be freed either."""
        if not self._encoder.close(_CLOSING_S):
            return False
        self._projector.close()
        return True


def _key(sequence: Sequence, block: Block) -> Key:
    return sequence.space, block.key
