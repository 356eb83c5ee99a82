"""An opened GGUF: its vocabulary and metadata.  Shared by every context that computes with it.

Source: llama.h of llama.cpp as llama-cpp-python 0.3.36 wraps it.  One thread only.
"""

from __future__ import annotations

import ctypes

import llama_cpp as llama

from hybrid_router.engines.llama import last_words, opening
from hybrid_router.engines.settings import Offload
from hybrid_router.engines.task import EngineFailed

ALL_LAYERS = 999
_SPLITS = {
    "none": llama.LLAMA_SPLIT_MODE_NONE,
    "layer": llama.LLAMA_SPLIT_MODE_LAYER,
    "row": llama.LLAMA_SPLIT_MODE_ROW,
}
_TEXT_BYTES = 1 << 16


class Weights:
    """Owns the model.  `close` frees it, after every context made from it; the process's end does too.

    Attributes:
        handle: the library's model.
        vocabulary_count: how many tokens there are.
        trained_context: tokens the model was trained for.
    """

    def __init__(
        self, path: str, offload: Offload, *, vocabulary_only: bool = False, checked: bool = False
    ) -> None:
        """Open the file.

        `checked`: its header was read already, and found to be sound.

        Raises:
            EngineFailed: not a GGUF this library can load, or too big; names the file.
        """
        if not checked:
            opening.checked(path, vocabulary_only=vocabulary_only)
        llama.llama_log_set(llama.llama_log_callback(0), None)  # the C logger: plain lines on stderr
        llama.llama_backend_init()
        self.path = path
        self.handle = _load(path, offload, vocabulary_only=vocabulary_only)
        self._vocab = llama.llama_model_get_vocab(self.handle)
        self.vocabulary_count: int = llama.llama_vocab_n_tokens(self._vocab)
        self.trained_context: int = llama.llama_model_n_ctx_train(self.handle)
        self._pieces: dict[int, bytes] = {}
        self._shown: dict[int, bytes] = {}

    @property
    def vocab(self) -> object:
        """The library's vocabulary."""
        return self._vocab

    @property
    def description(self) -> str:
        """Architecture, size and quantization in one line."""
        buffer = ctypes.create_string_buffer(256)
        llama.llama_model_desc(self.handle, buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace")

    @property
    def whole_only(self) -> bool:
        """Whether a sequence's memory cannot be shortened or shared in part: recurrent layers, alone or
        beside attention."""
        return bool(llama.llama_model_is_recurrent(self.handle) or llama.llama_model_is_hybrid(self.handle))

    @property
    def window(self) -> int:
        """Tokens that sliding-window layers look back; 0: there are none."""
        return int(llama.llama_model_n_swa(self.handle))

    def metadata(self, key: str) -> str | None:
        """A value of the file's metadata as text, at most 64 KiB of it; None: it has no such key."""
        buffer = ctypes.create_string_buffer(_TEXT_BYTES)
        count = llama.llama_model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return None if count < 0 else buffer.value.decode("utf-8", "replace")

    def template(self, name: str | None = None) -> str | None:
        """The chat template of the file's metadata, or the one of this name (`tool_use`)."""
        found = llama.llama_model_chat_template(self.handle, name.encode() if name else None)
        return found.decode("utf-8", "replace") if found else None

    def special(self, which: str) -> int | None:
        """The token called `bos`, `eos`, `eot`, `sep`, `nl`, `fim_pre`, …; None: the vocabulary has none."""
        token = int(getattr(llama, f"llama_vocab_{which}")(self._vocab))
        return None if token < 0 else token

    def special_text(self, which: str) -> str:
        """How a special token is written; empty if there is none."""
        token = self.special(which)
        return "" if token is None else self.shown_piece(token).decode("utf-8", "replace")

    def tokenize(self, text: str, *, add_special: bool = True, read_special: bool = True) -> list[int]:
        """Token ids of `text`.

        `add_special`: with what the model wants around it.  `read_special`: special tokens written in it are
        recognised, as templates need.
        """
        encoded = text.encode("utf-8", "replace")
        count = -len(encoded) - 8  # a token for each byte is enough, but where a sign is written out as many
        while count < 0:  # then it says how many
            room = -count
            tokens = (llama.llama_token * room)()
            count = llama.llama_tokenize(
                self._vocab, encoded, len(encoded), tokens, room, add_special, read_special
            )
        return list(tokens[:count])

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for, maybe part of a character; special tokens stand for none."""
        found = self._pieces.get(token)
        if found is None:
            found = self._pieces[token] = self._render(token, special=False)
        return found

    def shown_piece(self, token: int) -> bytes:
        """As `piece`, but special tokens are written out, as templates write them."""
        found = self._shown.get(token)
        if found is None:
            found = self._shown[token] = self._render(token, special=True)
        return found

    def _render(self, token: int, *, special: bool) -> bytes:
        buffer = ctypes.create_string_buffer(64)
        count = llama.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        if count < 0:
            buffer = ctypes.create_string_buffer(-count)
            count = llama.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        return buffer.raw[:count]

    def ends(self, token: int) -> bool:
        """Whether the model ends its answer with this token."""
        return bool(llama.llama_vocab_is_eog(self._vocab, token))

    def close(self) -> None:
        """Free the model."""
        llama.llama_model_free(self.handle)


def _load(path: str, offload: Offload, *, vocabulary_only: bool) -> object:
    """Load the file, with a reason where the library gives none."""
    params = llama.llama_model_default_params()
    params.vocab_only = vocabulary_only
    layers = ALL_LAYERS if offload.layers is None else offload.layers
    params.n_gpu_layers = layers if layers >= 0 else ALL_LAYERS
    params.split_mode = _SPLITS[offload.split]
    params.main_gpu = offload.main
    if offload.shares:
        shares = (*offload.shares, *(0.0,) * llama.llama_max_devices())[: llama.llama_max_devices()]
        params.tensor_split = (ctypes.c_float * len(shares))(*shares)
    with last_words.heard() as said:
        model = llama.llama_model_load_from_file(path.encode(), params)
    if not model:
        raise EngineFailed(f"{path}: llama.cpp cannot load this file: {last_words.reason(said)}")
    return model
