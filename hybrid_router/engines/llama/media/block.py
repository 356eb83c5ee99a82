"""An image or a sound within a prompt, as the engine's other parts see it: a run of made-up tokens."""

from __future__ import annotations

import hashlib
import weakref
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

from llama_cpp import mtmd_cpp as mtmd

_ID_BYTES = 4
_LOWEST = -(2**31)


class Chunk:
    """Owns one of the library's chunks: what a projector makes a block of.  Freed with the last reference,
    so never while somebody encodes it."""

    def __init__(self, handle: object) -> None:
        self.handle = handle
        weakref.finalize(self, mtmd.mtmd_input_chunk_free, handle).atexit = False


@dataclass(frozen=True, eq=False)
class Block:
    """A piece of an image or of sound.  It is computed in one go: nothing is shared up to within it.

    Attributes:
        key: what it shows and how; two blocks of the same key have the same vectors.
        start: its first place in the sequence's tokens.
        positions_count: how many places it takes.
        tokens_count: KV cells; more than places where an image's rows share them (M-RoPE).
        chunk: for the projector.
    """

    key: bytes
    start: int
    positions_count: int
    tokens_count: int
    chunk: Chunk

    @property
    def end(self) -> int:
        """The first place behind it."""
        return self.start + self.positions_count


def made_up(key: bytes, count: int) -> list[int]:
    """Numbers that stand for a block among tokens: negative, and only ever equal for the same key.

    So an index of tokens finds prompts with the same picture, and takes no picture for another.
    """
    drawn = array("i", hashlib.shake_256(key).digest(count * _ID_BYTES))
    return [number if number < 0 else number + _LOWEST for number in drawn]


def whole(blocks: Iterable[Block], count: int) -> int:
    """`count` tokens of a sequence, or fewer: those before the block that they would end in."""
    return next((block.start for block in blocks if block.start < count < block.end), count)


def tokens_count(blocks: Iterable[Block], count: int) -> int:
    """KV cells of the first `count` places, which end outside of any block."""
    return count + sum(block.tokens_count - block.positions_count for block in blocks if block.end <= count)
