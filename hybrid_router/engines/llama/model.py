"""An opened GGUF with its context: tokens in, logits in the library's memory, pieces out.

Source: llama.h of llama.cpp as llama-cpp-python 0.3.36 wraps it.  One thread only.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import llama_cpp as llama

from hybrid_router.engines.task import EngineFailed, Opened, Settings

_DEFAULT_CONTEXT = 4096
_FAILED_DECODE = {1: "no free cells in the KV cache", 2: "aborted", -1: "invalid batch"}


class DecodeFailed(Exception):
    """One `llama_decode` failed; the sequences in its batch are lost, the context is not."""


class Model:
    """Owns the model, its context and one batch.  `close` frees them; the process's end does too."""

    def __init__(self, settings: Settings) -> None:
        """Open the file.

        Raises:
            EngineFailed: not a GGUF this library can load, or too big; names the file.
        """
        self._settings = settings
        llama.llama_log_set(llama.llama_log_callback(0), None)  # the C logger: plain lines on stderr
        llama.llama_backend_init()
        self._model = _load(settings)
        self._vocab = llama.llama_model_get_vocab(self._model)
        trained = llama.llama_model_n_ctx_train(self._model)
        self.context = settings.context or min(trained, _DEFAULT_CONTEXT)
        if self.context > trained:
            raise EngineFailed(
                f"{settings.path}: `context` is {self.context}; lower it, "
                f"the model was trained for {trained} tokens"
            )
        self.vocabulary_count: int = llama.llama_vocab_n_tokens(self._vocab)
        self._context = self._new_context()
        self._memory = llama.llama_get_memory(self._context)
        self._capacity = settings.prefill_chunk + settings.parallel
        self._batch = llama.llama_batch_init(self._capacity, 0, 1)
        self._pieces: dict[int, bytes] = {}

    def _new_context(self) -> object:
        """A unified KV cache with room for every sequence at its longest."""
        params = llama.llama_context_default_params()
        params.n_ctx = self.context * self._settings.parallel
        params.n_batch = self._settings.prefill_chunk + self._settings.parallel
        params.n_ubatch = min(512, params.n_batch)
        params.n_seq_max = self._settings.parallel
        params.kv_unified = True
        params.n_threads = params.n_threads_batch = self._settings.threads
        params.no_perf = True
        context = llama.llama_init_from_model(self._model, params)
        if not context:
            raise EngineFailed(
                f"{self._settings.path}: no memory for a context of {params.n_ctx} tokens; "
                "lower `context` or `parallel`"
            )
        return context

    def opened(self) -> Opened:
        """What this model is."""
        return Opened(
            description=self._description(),
            context=self.context,
            parallel=self._settings.parallel,
            has_template=self.template() is not None,
            vocabulary_count=self.vocabulary_count,
        )

    def _description(self) -> str:
        buffer = ctypes.create_string_buffer(256)
        llama.llama_model_desc(self._model, buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace")

    def template(self) -> str | None:
        """The chat template of the file's metadata."""
        found = llama.llama_model_chat_template(self._model, None)
        return found.decode("utf-8", "replace") if found else None

    def special_text(self, which: str) -> str:
        """How the `bos` or `eos` token is written; empty if there is none."""
        token = getattr(llama, f"llama_vocab_{which}")(self._vocab)
        return "" if token < 0 else self._render(token, special=True).decode("utf-8", "replace")

    def tokenize(self, text: str, *, add_special: bool = True, read_special: bool = True) -> list[int]:
        """Token ids of `text`.

        `add_special`: with what the model wants around it.  `read_special`: special tokens written in it are
        recognised, as templates need.
        """
        encoded = text.encode("utf-8", "replace")
        room = len(encoded) + 8  # never more tokens than bytes, but for the special ones around
        tokens = (llama.llama_token * room)()
        count = llama.llama_tokenize(
            self._vocab, encoded, len(encoded), tokens, room, add_special, read_special
        )
        if count < 0:
            raise EngineFailed(f"the tokenizer wants room for {-count} tokens, {room} were given")
        return list(tokens[:count])

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for, maybe part of a character; special tokens stand for none."""
        found = self._pieces.get(token)
        if found is None:
            found = self._pieces[token] = self._render(token, special=False)
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

    def decode(self, entries: list[tuple[int, int, int, bool]]) -> None:
        """Compute `(token, position, sequence, wants_logits)` entries in one go.

        Raises:
            DecodeFailed: the library refused or failed.
        """
        batch = self._batch
        batch.n_tokens = len(entries)
        for i, (token, position, sequence, wants) in enumerate(entries):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = wants
        status = llama.llama_decode(self._context, batch)
        if status != 0:
            raise DecodeFailed(_FAILED_DECODE.get(status, f"llama_decode returned {status}"))

    def sample(self, sampler: object, entry: int) -> int:
        """Choose the next token from the logits of the batch's entry `entry`."""
        return int(llama.llama_sampler_sample(sampler, self._context, entry))

    def forget(self, sequence: int) -> None:
        """Free the KV cells of a sequence."""
        llama.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def close(self) -> None:
        """Free batch, context and model, in this order."""
        llama.llama_batch_free(self._batch)
        llama.llama_free(self._context)
        llama.llama_model_free(self._model)


def _load(settings: Settings) -> object:
    """Load the file, with a reason where the library gives none."""
    path = Path(settings.path)
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise EngineFailed(f"{path}: cannot be read ({error.strerror})") from error
    if magic != b"GGUF":
        raise EngineFailed(f"{path}: not a GGUF file (it begins with {magic!r})")
    params = llama.llama_model_default_params()
    params.n_gpu_layers = settings.gpu_layers if settings.gpu_layers >= 0 else 999
    model = llama.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        raise EngineFailed(f"{path}: llama.cpp cannot load this file; its last words are in the log")
    return model
