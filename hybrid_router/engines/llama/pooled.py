"""A llama.cpp context that makes one row of numbers of each text: a vector, or scores.

Source: llama.h, llama-context.cpp and llama-graph.cpp of llama.cpp as llama-cpp-python 0.3.36 wraps it.
One thread only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import llama_cpp as llama
import numpy as np
from numpy.typing import NDArray

from hybrid_router.engines.llama import gguf
from hybrid_router.engines.llama.context import Entry
from hybrid_router.engines.llama.fit import CELL_TYPES
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.engines.task import EngineFailed

Row: TypeAlias = NDArray[np.float32]

_HEAD = "cls.output.weight"
_PROBE_TOKENS = 32
_FLASH: Mapping[str, int] = MappingProxyType(
    {
        "auto": llama.LLAMA_FLASH_ATTN_TYPE_AUTO,
        "on": llama.LLAMA_FLASH_ATTN_TYPE_ENABLED,
        "off": llama.LLAMA_FLASH_ATTN_TYPE_DISABLED,
    }
)


class ComputeFailed(Exception):
    """A batch brought nothing, or nothing of use, for one of its texts at least; the text says why."""


@dataclass(frozen=True)
class Pooling:
    """How a text's tokens become one row.

    Attributes:
        kind: one of LLAMA_POOLING_TYPE_MEAN, _CLS, _LAST, _RANK.
        width: numbers of a row.
        splits: a text may be computed in several batches: its last token has seen the others, which a cache
            remembers.  If not, it must be in one batch.
    """

    kind: int
    width: int
    splits: bool


def pooling_of(weights: Weights, settings: LlamaSettings) -> Pooling:
    """How this model pools, for what it is opened for.

    A file that names no pooling was made to write text.  llama-server wants to be told then; here the last
    token stands for the text where it has seen all others, otherwise the mean of them all.

    Raises:
        EngineFailed: the model was made for something else; names the file and what to change.
    """
    if llama.llama_model_has_encoder(weights.handle):
        raise EngineFailed(f"{weights.path}: embeddings of encoder-decoder models are not supported")
    own, causal, has_cache = _nature(weights, settings)
    if settings.purpose == "rerank":
        _check_head(weights)
        width = int(llama.llama_model_n_cls_out(weights.handle))
        return Pooling(llama.LLAMA_POOLING_TYPE_RANK, width, splits=causal and has_cache)
    if own == llama.LLAMA_POOLING_TYPE_RANK:
        raise EngineFailed(f"{weights.path}: this model ranks documents; set `purpose: rerank`")
    if own == llama.LLAMA_POOLING_TYPE_NONE:
        own = llama.LLAMA_POOLING_TYPE_LAST if causal else llama.LLAMA_POOLING_TYPE_MEAN
    splits = causal and has_cache and own == llama.LLAMA_POOLING_TYPE_LAST
    return Pooling(own, int(llama.llama_model_n_embd_out(weights.handle)), splits)


def _nature(weights: Weights, settings: LlamaSettings) -> tuple[int, bool, bool]:
    """The file's own pooling, whether tokens see only those before them, whether there is a cache.

    Some architectures say so in llama.cpp's code and not in the file, so a small context is asked.
    """
    params = _params(settings)
    params.n_ctx = params.n_batch = params.n_ubatch = _PROBE_TOKENS
    handle = _made(weights, params)
    pooling = int(llama.llama_pooling_type(handle))
    causal = bool(llama.llama_get_causal_attn(handle))
    has_cache = bool(llama.llama_get_memory(handle))
    llama.llama_free(handle)
    return pooling, causal, has_cache


def _check_head(weights: Weights) -> None:
    """Without it llama.cpp would take a token's first numbers for scores."""
    if all(tensor.name != _HEAD for tensor in gguf.read(weights.path).tensors):
        raise EngineFailed(
            f"{weights.path}: this model cannot rank documents (it has no {_HEAD}); "
            "leave `purpose: rerank` out, or take a reranker"
        )


class PooledContext:
    """Owns a context and one batch.  `close` frees them.

    Attributes:
        pooling: how rows are made.
        batch_count: entries of one `compute`.
        sequences_count: texts of one `compute`.
    """

    def __init__(
        self, weights: Weights, settings: LlamaSettings, *, length: int, sequences_count: int
    ) -> None:
        """Get memory for texts of up to `length` tokens, at most `sequences_count` of them in a batch.

        Raises:
            EngineFailed: there is not enough, or the model was made for something else.
        """
        self.pooling = pooling_of(weights, settings)
        chunk = settings.prefill_chunk
        self.batch_count = chunk if self.pooling.splits else max(chunk, length)
        self.sequences_count = min(sequences_count, self.batch_count)  # more would end the process
        params = _params(settings)
        # Besides a text in parts there are others, which fit a chunk.
        params.n_ctx = length + chunk if self.pooling.splits else self.batch_count
        params.n_batch = params.n_ubatch = self.batch_count  # no text is divided behind our back
        params.n_seq_max = self.sequences_count
        params.pooling_type = self.pooling.kind
        self._handle = _made(weights, params)
        self._memory = llama.llama_get_memory(self._handle)
        self._batch = llama.llama_batch_init(self.batch_count, 0, 1)

    def compute(self, entries: list[Entry]) -> None:
        """Compute entries in one go, at most `batch_count`.

        Raises:
            ComputeFailed: the library refused or failed.
        """
        batch = self._batch
        batch.n_tokens = len(entries)
        for i, (token, position, sequence, wants) in enumerate(entries):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = wants
        # Without a cache decoding is encoding, and says so in the log each time.
        status = (llama.llama_decode if self._memory else llama.llama_encode)(self._handle, batch)
        if status != 0:
            raise ComputeFailed(f"llama.cpp returned {status}")

    def row(self, sequence: int) -> Row:
        """What the last batch made of a sequence, as the model gives it, copied.

        Raises:
            ComputeFailed: the last batch had nothing of it, or made no numbers of it.
        """
        found = llama.llama_get_embeddings_seq(self._handle, sequence)
        if not found:
            raise ComputeFailed("llama.cpp made nothing of a text")
        row = np.ctypeslib.as_array(found, shape=(self.pooling.width,)).copy()
        if not np.isfinite(row).all():
            raise ComputeFailed("the model's answer is not a number")
        return row

    def unit_row(self, sequence: int) -> Row:
        """`row` at Euclidean length 1.

        Raises:
            ComputeFailed: as `row`, or it has no direction.
        """
        row = self.row(sequence).astype(np.float64)
        length = np.linalg.norm(row)
        if length == 0:
            raise ComputeFailed("the model's vector is zero")
        return (row / length).astype(np.float32)

    def forget(self, sequence: int) -> None:
        """Free what the cache holds of a sequence, if there is a cache."""
        llama.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def clear(self) -> None:
        """Free all that the cache holds, and overwrite it: what is no number spreads from freed cells too."""
        llama.llama_memory_clear(self._memory, True)

    def close(self) -> None:
        """Free batch and context."""
        llama.llama_batch_free(self._batch)
        llama.llama_free(self._handle)


def _params(settings: LlamaSettings) -> Any:
    """What all contexts for whole texts share."""
    params = llama.llama_context_default_params()
    params.embeddings = True
    params.kv_unified = True
    params.swa_full = True
    params.n_threads = params.n_threads_batch = settings.threads
    params.flash_attn_type = _FLASH[settings.flash_attention]
    params.type_k, params.type_v = CELL_TYPES[settings.key_type], CELL_TYPES[settings.value_type]
    params.no_perf = True
    return params


def _made(weights: Weights, params: Any) -> Any:
    handle = llama.llama_init_from_model(weights.handle, params)
    if not handle:
        raise EngineFailed(
            f"{weights.path}: no memory for texts of {params.n_ctx} tokens; "
            "lower `context` or `prefill_chunk`"
        )
    return handle
