"""A llama.cpp context: tokens in, logits and KV cells in the library's memory.

Source: llama.h of llama.cpp as llama-cpp-python 0.3.36 wraps it.  One thread only.
"""

from __future__ import annotations

import ctypes
from typing import TypeAlias

import llama_cpp as llama
import numpy as np
from llama_cpp import mtmd_cpp as mtmd
from numpy.typing import NDArray

from hybrid_router.engines.llama.fit import CELL_TYPES
from hybrid_router.engines.llama.media.block import Block
from hybrid_router.engines.llama.media.projector import Projector, Vectors
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.engines.task import EngineFailed

# Token, position, sequence, whether its logits are wanted.
Entry: TypeAlias = tuple[int, int, int, bool]
Logits: TypeAlias = NDArray[np.float32]

NO_ROOM = 1
_MOST_SEQUENCES = 256  # LLAMA_MAX_SEQ of llama.cpp
_FAILED_DECODE = {NO_ROOM: "no free cells in the KV cache", 2: "aborted", -1: "invalid batch"}
_FLASH = {
    "auto": llama.LLAMA_FLASH_ATTN_TYPE_AUTO,
    "on": llama.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    "off": llama.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}


class DecodeFailed(Exception):
    """One `llama_decode` failed; the cells of its entries may be there or not.

    `no_room`: the KV cache was full, and nothing has changed.
    """

    def __init__(self, status: int) -> None:
        super().__init__(_FAILED_DECODE.get(status, f"llama_decode returned {status}"))
        self.no_room = status == NO_ROOM


class Context:
    """Owns a context and one batch.  `close` frees them.

    All sequences share one unified KV cache of `cells_count` cells.

    Sliding windows: llama.cpp gives cells away that no later token of their only sequence looks back at, even
    though another call may want to go on from an earlier place.  A cell of two sequences stays, so each
    sequence has a shadow, which is never computed with and has its cells too.

    Attributes:
        handle: the library's context.
        sequences_count: how many sequences it can tell apart, at most as many as were asked for.
        batch_count: entries of one decode.
    """

    def __init__(
        self,
        weights: Weights,
        settings: LlamaSettings,
        *,
        cells_count: int,
        sequences_count: int,
        batch_count: int,
        outputs_count: int = 0,
        whole_count: int = 0,
    ) -> None:
        """Get memory for the KV cache.

        Args:
            outputs_count: entries of one decode whose logits may be wanted; 0: of all.  They take memory, a
                number for every token of the vocabulary.
            whole_count: of an image or sound, so many vectors may have to be computed at once.

        Raises:
            EngineFailed: there is not enough; says what to lower.
        """
        self._whole_only = weights.whole_only
        self._window = 0 if weights.whole_only else weights.window
        self.cells_count = cells_count
        self.sequences_count = min(sequences_count, _MOST_SEQUENCES // (2 if self._window else 1))
        self.batch_count = batch_count
        self._vocabulary_count = weights.vocabulary_count
        self._guarded = [0] * self.sequences_count  # tokens that a sequence's shadow has
        params = llama.llama_context_default_params()
        params.n_ctx = cells_count
        params.n_seq_max = self.sequences_count * (2 if self._window else 1)
        # With fewer than there are sequences, the library ends the process.
        params.n_batch = max(batch_count, params.n_seq_max, whole_count)
        # Within windows all in one go: of two, the second would be given cells of the first.
        params.n_ubatch = params.n_batch if self._window else max(min(512, params.n_batch), whole_count)
        # The library sets aside outputs for every sequence, and ends the process where it may not.
        params.n_outputs_max = max(outputs_count, params.n_seq_max) if outputs_count else 0
        params.kv_unified = True
        params.swa_full = True  # as many cells as there are tokens; they stay, see above
        params.n_threads = params.n_threads_batch = settings.threads
        params.flash_attn_type = _FLASH[settings.flash_attention]
        params.type_k, params.type_v = CELL_TYPES[settings.key_type], CELL_TYPES[settings.value_type]
        params.no_perf = True
        self.handle = llama.llama_init_from_model(weights.handle, params)
        if not self.handle:
            raise EngineFailed(
                f"{settings.path}: no memory for a context of {params.n_ctx} tokens; "
                "lower `context` or `parallel`"
            )
        self.memory = llama.llama_get_memory(self.handle)
        self._vectors_count = int(params.n_batch)
        self._batch = llama.llama_batch_init(batch_count, 0, 1)

    def decode(self, entries: list[Entry]) -> None:
        """Compute entries in one go, at most `batch_count`.

        Raises:
            DecodeFailed: the library refused or failed.
        """
        batch = self._batch
        batch.n_tokens = len(entries)
        tokens, positions, counts, sequences, logits = (
            batch.token, batch.pos, batch.n_seq_id, batch.seq_id, batch.logits
        )  # fmt: skip
        for i, (token, position, sequence, wants) in enumerate(entries):
            tokens[i] = token
            positions[i] = position
            counts[i] = 1
            sequences[i][0] = sequence
            logits[i] = wants
        status = llama.llama_decode(self.handle, batch)
        if status != 0:
            raise DecodeFailed(status)
        if self._window:
            for sequence, end in {sequence: position + 1 for _, position, sequence, _ in entries}.items():
                if end - self._guarded[sequence] >= self._window:
                    self._guard(sequence, end)

    def decode_block(self, projector: Projector, block: Block, vectors: Vectors, sequence: int) -> None:
        """Compute an image or sound behind the first `block.start` tokens of a sequence.

        Raises:
            DecodeFailed: the library refused or failed; some of the block's cells may be there.
        """
        end = ctypes.c_int32()
        status = mtmd.mtmd_helper_decode_image_chunk(
            projector.handle,
            self.handle,
            block.chunk.handle,
            vectors.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
            block.start,
            sequence,
            self._vectors_count,
            ctypes.byref(end),
            mtmd.mtmd_helper_post_decode_callback(0),
            None,
        )
        if status != 0:
            raise DecodeFailed(status)
        if self._window:
            self._guard(sequence, block.end)

    def _guard(self, sequence: int, end: int) -> None:
        """Let a sequence's shadow have its first `end` tokens."""
        llama.llama_memory_seq_cp(self.memory, sequence, self._shadow(sequence), self._guarded[sequence], end)
        self._guarded[sequence] = end

    def _shadow(self, sequence: int) -> int:
        return self.sequences_count + sequence

    def logits(self, entry: int) -> Logits:
        """The logits of the last batch's entry `entry`: a view of the library's memory, writable, good until
        the next `decode`."""
        found = llama.llama_get_logits_ith(self.handle, entry)
        return np.ctypeslib.as_array(found, shape=(self._vocabulary_count,))

    def share(self, source: int, target: int, count: int) -> None:
        """Let `target`, which is empty, have the first `count` tokens of `source`, without copying.

        Where memory is of use as a whole only, these must be all that `source` has.
        """
        llama.llama_memory_seq_cp(self.memory, source, target, 0, -1 if self._whole_only else count)
        if self._window:
            self._guard(target, count)

    def reaches(self, sequence: int, count: int) -> bool:
        """Whether one could go on behind the first `count` tokens of `sequence`: whether those are still
        there that sliding windows look back at."""
        if not self._window:
            return True
        oldest = llama.llama_memory_seq_pos_min(self.memory, sequence)
        return bool(oldest <= max(0, count - self._window))

    def restores(self, count: int, length: int) -> bool:
        """Whether one could go on behind the first `count` tokens of a state of `length`: llama.cpp leaves
        out of it what the sliding windows of the next token do not look back at."""
        return not self._window or length <= self._window or count == length

    def cut(self, sequence: int, count: int) -> bool:
        """Keep the first `count` tokens of a sequence.  Returns whether that was possible; if not, nothing
        has changed."""
        if self._guarded[sequence] > count:
            llama.llama_memory_seq_rm(self.memory, self._shadow(sequence), count, -1)
            self._guarded[sequence] = count
        return bool(llama.llama_memory_seq_rm(self.memory, sequence, count, -1))

    def forget(self, sequence: int) -> None:
        """Free the KV cells that no other sequence has."""
        llama.llama_memory_seq_rm(self.memory, sequence, -1, -1)
        if self._window:
            llama.llama_memory_seq_rm(self.memory, self._shadow(sequence), -1, -1)
            self._guarded[sequence] = 0

    @property
    def parts_restore(self) -> bool:
        """Whether a beginning of a restored sequence is as good as a shared one."""
        return not self._whole_only and not self._window

    def state_bytes(self, sequence: int) -> int:
        """How large a sequence's `state` is."""
        return int(llama.llama_state_seq_get_size(self.handle, sequence))

    def state(self, sequence: int) -> bytes:
        """A sequence's memory, for `restore`."""
        size = self.state_bytes(sequence)
        buffer = (ctypes.c_uint8 * size)()
        written = llama.llama_state_seq_get_data(self.handle, buffer, size, sequence)
        return bytes(memoryview(buffer)[:written])

    def restore(self, sequence: int, state: bytes) -> bool:
        """Give `sequence`, which is empty, the memory that `state` gave.  Returns whether there was room and
        the state fits this context."""
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        if llama.llama_state_seq_set_data(self.handle, buffer, len(state), sequence) > 0:
            return True
        self.forget(sequence)
        return False

    def close(self) -> None:
        """Free batch and context."""
        llama.llama_batch_free(self._batch)
        llama.llama_free(self.handle)
