"""An opened projector (mmproj): what turns images and sound into vectors that a model reads like tokens.

Source: mtmd.h and mtmd-helper.h of llama.cpp as llama-cpp-python 0.3.36 wraps it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import llama_cpp as llama
import numpy as np
from llama_cpp import mtmd_cpp as mtmd
from numpy.typing import NDArray

from hybrid_router.core.call import Feature
from hybrid_router.engines.llama import gguf, last_words
from hybrid_router.engines.llama.media.block import Block, Chunk, made_up
from hybrid_router.engines.llama.media.sources import Medium, Picture, refused
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.engines.task import EngineFailed

Vectors: TypeAlias = NDArray[np.float32]

_STDERR = 2
_INFO, _WARNING, _ERROR = 2, 3, 4  # ggml_log_level; what is below tells what texts say
_TEXT = 0  # mtmd_input_chunk_type
# Sizes of images that, between them, bring out how many tokens one may take at most.
_TRIED_SIZES = ((4096, 4096), (8000, 1000), (1000, 8000), (512, 512))
_TRIED_S = 30
_MOST_LAYERS = 512
_MOST_SIDE = 1 << 14


class EncodingFailed(Exception):
    """The library could not make vectors of a block."""


@dataclass(frozen=True)
class Read:
    """A prompt of text and media: its tokens, made-up ones where `blocks` are."""

    tokens: list[int]
    blocks: tuple[Block, ...]


class Projector:
    """Owns the library's multimodal context.  `close` frees it, before the model.

    `encode` may run in another thread than the rest, one call at a time.

    Attributes:
        handle: the library's context.
        can: what it reads: images, sound.
        whole_count: tokens of one image or sound that must fit into one batch, because they attend to each
            other, or the model has sliding windows; 0: none must.
    """

    def __init__(self, path: str, weights: Weights, settings: LlamaSettings, *, on_gpu: bool) -> None:
        """Open the file.

        Raises:
            EngineFailed: it is no projector, or not one of this model; names the file.
        """
        self.path = path
        _check(path)
        self._width = int(llama.llama_model_n_embd_inp(weights.handle))
        self._vocabulary_count = weights.vocabulary_count
        self._windows = weights.window > 0  # then nothing may be computed in parts (see `Context`)
        self._said: list[str] = []
        self._loud = True
        self._hear = llama.llama_log_callback(self._heard)
        mtmd.mtmd_helper_log_set(self._hear, None)
        self.handle = _opened(path, weights, settings, on_gpu=on_gpu)
        if not self.handle:
            raise self._failed(path)
        self._loud = False
        found = Path(path).stat()
        self._seed = f"{path}\n{found.st_size}\n{found.st_mtime_ns}\n".encode()
        sees = bool(mtmd.mtmd_support_vision(self.handle))
        hears = bool(mtmd.mtmd_support_audio(self.handle))
        self.can = frozenset(
            ability for ability, there in ((Feature.IMAGES, sees), (Feature.AUDIO, hears)) if there
        )
        self.whole_count = 0
        try:
            self.whole_count = self._tried(sees=sees, hears=hears)
        except EngineFailed:
            self.close()
            raise

    def _heard(self, level: int, text: bytes, ignored: object) -> None:
        """Pass on what the library says, but never what it says of texts."""
        if level in {_WARNING, _ERROR} or (self._loud and level == _INFO):
            os.write(_STDERR, text)
        if level == _ERROR:
            self._said = [*self._said[-3:], text.decode("utf-8", "replace")]

    def _failed(self, path: str) -> EngineFailed:
        mtmd.mtmd_helper_log_set(llama.llama_log_callback(0), None)
        words = [last_words.reason([said]) for said in self._said]
        # First comes what is wrong with the file, then that the file failed.
        return EngineFailed(f"{path}: llama.cpp cannot use this projector: {_plainly(words, path)}")

    def _tried(self, *, sees: bool, hears: bool) -> int:
        """See what comes of images of several sizes, and of a sound, without computing them."""
        with ExitStack() as stack:
            tried = [mtmd.mtmd_bitmap_init(*size, None) for size in _TRIED_SIZES if sees]
            if hears:
                rate = max(1, int(mtmd.mtmd_get_audio_sample_rate(self.handle)))
                tried.append(mtmd.mtmd_bitmap_init_from_audio(_TRIED_S * rate, None))
            found: list[object] = []
            for bitmap in tried:
                chunks = self._chunks([_part(bitmap=_bitmap(stack, bitmap))], add_special=False)
                if chunks is not None:
                    stack.callback(mtmd.mtmd_input_chunks_free, chunks)
                    found += _each(chunks)
            self._check_words([token for chunk in found if _is_text(chunk) for token in _text(chunk)])
            return max((_count(chunk) for chunk in found if self._at_once(chunk)), default=0)

    def _at_once(self, chunk: object) -> bool:
        """Whether all of a chunk must be computed in one go."""
        if _is_text(chunk):
            return False
        return self._windows or bool(mtmd.mtmd_decode_use_non_causal(self.handle, chunk))

    def _check_words(self, tokens: Sequence[int]) -> None:
        if any(not 0 <= token < self._vocabulary_count for token in tokens):
            raise EngineFailed(
                f"{self.path}: this projector puts words around images that the model does not have; "
                "take the one that was made for it"
            )

    def read(self, parts: Sequence[str | Medium], *, add_special: bool, blank: bool = False) -> Read:
        """Tokens of text and media in turn.

        `add_special`: with what the model wants around a text.  `blank`: only to be counted; nothing of it
        can be encoded, which is much quicker for images.

        Raises:
            TaskRefused: a medium cannot be read.
        """
        with ExitStack() as stack:
            made = [self._made(stack, part, blank=blank) for part in parts]
            chunks = self._chunks(made, add_special=add_special)
            if chunks is None:
                raise refused("an image or sound cannot be prepared for this model")
            stack.callback(mtmd.mtmd_input_chunks_free, chunks)
            return self._gathered(chunks, Counter(_id(part) for part in parts if not isinstance(part, str)))

    def _made(self, stack: ExitStack, part: str | Medium, *, blank: bool) -> Any:
        if isinstance(part, str):
            written = part.encode("utf-8", "replace")
            text = mtmd.mtmd_input_text(written, len(written), False, True)
            return _part(text=ctypes.pointer(text))
        if isinstance(part, Picture):
            pixels = None if blank else ctypes.cast(ctypes.c_char_p(part.rgb), ctypes.POINTER(ctypes.c_uint8))
            bitmap = _bitmap(stack, mtmd.mtmd_bitmap_init(part.width, part.height, pixels))
        else:
            content = ctypes.cast(ctypes.c_char_p(part.content), ctypes.POINTER(ctypes.c_uint8))
            options = mtmd.mtmd_helper_init_opt_default()
            bitmap = _bitmap(
                stack,
                mtmd.mtmd_helper_bitmap_init_from_buf_wrapper(
                    self.handle, content, len(part.content), False, options
                ).bitmap,
            )
        mtmd.mtmd_bitmap_set_id(bitmap, _id(part))
        return _part(bitmap=bitmap)

    def _chunks(self, parts: Sequence[Any], *, add_special: bool) -> object | None:
        """The library's chunks, to be freed; None: it cannot make any."""
        chunks: object = mtmd.mtmd_input_chunks_init()
        pointers = [ctypes.pointer(part) for part in parts]
        listed = (ctypes.POINTER(mtmd.mtmd_input_part) * len(parts))(*pointers)
        status = mtmd.mtmd_tokenize_from_parts(self.handle, chunks, listed, len(parts), add_special)
        if status == 0:
            return chunks
        mtmd.mtmd_input_chunks_free(chunks)
        return None

    def _gathered(self, chunks: object, times: Counter[bytes]) -> Read:
        """`times`: how often each medium is there.  One may be several chunks, as its size decides."""
        tokens: list[int] = []
        blocks: list[Block] = []
        counts = Counter(mtmd.mtmd_input_chunk_get_id(chunk) for chunk in _each(chunks))
        seen: Counter[bytes] = Counter()
        for chunk in _each(chunks):
            if _is_text(chunk):
                tokens += _text(chunk)
                continue
            medium = mtmd.mtmd_input_chunk_get_id(chunk) or b""
            number = seen[medium] % max(1, counts[medium] // max(1, times[medium]))
            seen[medium] += 1
            block = self._block(chunk, b"%s\n%d" % (medium, number), len(tokens))
            tokens += made_up(block.key, block.positions_count)
            blocks.append(block)
        return Read(tokens, tuple(blocks))

    def _block(self, chunk: object, shows: bytes, start: int) -> Block:
        tokens_count = _count(chunk)
        if tokens_count > self.whole_count and self._at_once(chunk):
            raise refused(
                f"an image or sound takes {tokens_count} tokens at once, and this model reads at most "
                f"{self.whole_count}; send a smaller or shorter one"
            )
        return Block(
            key=hashlib.sha256(b"%s%s\n%d" % (self._seed, shows, tokens_count)).digest(),
            start=start,
            positions_count=int(mtmd.mtmd_input_chunk_get_n_pos(chunk)),
            tokens_count=tokens_count,
            chunk=Chunk(mtmd.mtmd_input_chunk_copy(chunk)),
        )

    def encode(self, block: Block) -> Vectors:
        """(tokens, width) of a block; takes seconds on a CPU.

        Raises:
            EncodingFailed: the library says no.
        """
        if mtmd.mtmd_encode_chunk(self.handle, block.chunk.handle) != 0:
            raise EncodingFailed(last_words.reason(self._said[-1:]))
        found = mtmd.mtmd_get_output_embd(self.handle)
        return np.ctypeslib.as_array(found, shape=(block.tokens_count, self._width)).copy()

    def close(self) -> None:
        """Free it.  Nothing may be encoding."""
        mtmd.mtmd_free(self.handle)
        mtmd.mtmd_helper_log_set(llama.llama_log_callback(0), None)


def _opened(path: str, weights: Weights, settings: LlamaSettings, *, on_gpu: bool) -> object:
    params = mtmd.mtmd_context_params_default()
    params.use_gpu = on_gpu
    params.print_timings = False
    params.n_threads = settings.threads
    return mtmd.mtmd_init_from_file(path.encode(), weights.handle, params)


def _check(path: str) -> None:
    """Refuse by the header what is no projector, or one that the library would stumble over.

    Raises:
        EngineFailed: `path: reason`.
    """
    found = gguf.read(path).metadata
    if found.get("general.architecture") != "clip":
        raise EngineFailed(f"{path}: no projector, but a model; name its mmproj file as `projector`")
    kinds = [kind for kind in ("vision", "audio") if found.get(f"clip.has_{kind}_encoder") is True]
    if not kinds:
        raise EngineFailed(f"{path}: this projector reads neither images nor sound")
    for kind in kinds:
        for key, least, most in _BOUNDS[kind]:
            value = found.get(f"clip.{kind}.{key}", least)
            if isinstance(value, str | gguf.Array) or not least <= value <= most:
                raise EngineFailed(f"{path}: `clip.{kind}.{key}` makes no sense")


_ENCODER = (
    ("embedding_length", 1, 1 << 16),
    ("attention.head_count", 1, 1 << 10),
    ("block_count", 0, _MOST_LAYERS),
    ("feed_forward_length", 0, 1 << 20),
)
_BOUNDS = {
    "vision": (*_ENCODER, ("image_size", 1, _MOST_SIDE), ("patch_size", 1, _MOST_SIDE)),
    "audio": (*_ENCODER, ("num_mel_bins", 1, 1 << 12)),
}


def _plainly(words: Sequence[str], path: str) -> str:
    """The first reason, without the file's name and the library's own functions."""
    first = words[0] if words else last_words.reason([])
    return first.rpartition(f"'{path}': ")[2].rpartition("error: ")[2]


def _part(*, text: Any = None, bitmap: object = None) -> Any:
    return mtmd.mtmd_input_part(text, bitmap)


def _bitmap(stack: ExitStack, bitmap: object) -> object:
    """A bitmap that is freed with the stack."""
    if not bitmap:
        raise refused("an image or sound cannot be read")
    stack.callback(mtmd.mtmd_bitmap_free, bitmap)
    return bitmap


def _each(chunks: object) -> list[object]:
    return [mtmd.mtmd_input_chunks_get(chunks, at) for at in range(mtmd.mtmd_input_chunks_size(chunks))]


def _is_text(chunk: object) -> bool:
    return bool(mtmd.mtmd_input_chunk_get_type(chunk) == _TEXT)


def _count(chunk: object) -> int:
    return int(mtmd.mtmd_input_chunk_get_n_tokens(chunk))


def _id(medium: Medium) -> bytes:
    return medium.digest.hex().encode()


def _text(chunk: object) -> list[int]:
    count = ctypes.c_size_t()
    tokens = mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
    return list(tokens[: count.value])
