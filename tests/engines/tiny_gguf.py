"""A real llama model of 60 KB, written as any converter writes one, and ways to damage it."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np

LAYERS_COUNT = 2
WIDTH = 32
HEADS_COUNT = 4
VOCABULARY_COUNT = 262
TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|>"


def write(path: Path, template: str | None = TEMPLATE, **changed: Any) -> Path:
    """Write the model.  `changed` are metadata keys, `__` for `.`, that get another value, of any type."""
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in {**_hyper_parameters(), **_vocabulary()}.items():
        add(writer, key, value)
    if template is not None:
        writer.add_chat_template(template)
    for name, value in changed.items():
        key = name.replace("__", ".")
        for stored in writer.kv_data:
            stored.pop(key, None)
        add(writer, key, value)
    numbers = np.random.default_rng(7)
    for name, shape in _shapes():
        writer.add_tensor(name, numbers.normal(0, 0.05, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    """Add a metadata key, of the type that its value has."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _hyper_parameters() -> dict[str, Any]:
    return {
        "general.type": "model",
        "general.name": "tiny",
        "llama.block_count": LAYERS_COUNT,
        "llama.context_length": 128,
        "llama.embedding_length": WIDTH,
        "llama.feed_forward_length": 2 * WIDTH,
        "llama.attention.head_count": HEADS_COUNT,
        "llama.attention.head_count_kv": HEADS_COUNT // 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": WIDTH // HEADS_COUNT,
    }


def _vocabulary() -> dict[str, Any]:
    """SentencePiece's kind: three special tokens, all bytes, a few letters."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "▁a"]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [-float(index) for index in range(len(tokens))],
        "tokenizer.ggml.token_type": [2, 3, 3, *([6] * 256), 1, 1, 1],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }


def _shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Slowest dimension first, as numpy has them."""
    kept = WIDTH // 2
    yield "token_embd.weight", (VOCABULARY_COUNT, WIDTH)
    yield "output_norm.weight", (WIDTH,)
    for layer in range(LAYERS_COUNT):
        for name, shape in {
            "attn_norm": (WIDTH,),
            "attn_q": (WIDTH, WIDTH),
            "attn_k": (kept, WIDTH),
            "attn_v": (kept, WIDTH),
            "attn_output": (WIDTH, WIDTH),
            "ffn_norm": (WIDTH,),
            "ffn_gate": (2 * WIDTH, WIDTH),
            "ffn_up": (2 * WIDTH, WIDTH),
            "ffn_down": (WIDTH, 2 * WIDTH),
        }.items():
            yield f"blk.{layer}.{name}.weight", shape


def header_bytes(path: Path) -> int:
    """Where a model's tensors begin."""
    reader = gguf.GGUFReader(path)
    return int(reader.data_offset)


class Forged:
    """A GGUF written by hand, so that it may claim anything."""

    def __init__(self, *, magic: bytes = b"GGUF", version: int = 3, tensors: int = 0, keys: int = 0) -> None:
        self._out = io.BytesIO()
        self._out.write(magic + struct.pack("<IQQ", version, tensors, keys))

    def text(self, text: bytes, claimed: int | None = None) -> Forged:
        """A length and a text; the length may be another."""
        self._out.write(struct.pack("<Q", len(text) if claimed is None else claimed) + text)
        return self

    def raw(self, form: str, *values: float) -> Forged:
        """Numbers, little-endian."""
        self._out.write(struct.pack("<" + form, *values))
        return self

    def tensor(
        self, name: bytes = b"t", shape: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0
    ) -> Forged:
        """A tensor's description."""
        self.text(name).raw("I", len(shape)).raw(f"{len(shape)}Q", *shape)
        return self.raw("IQ", kind, offset)

    def bytes(self, more: int = 0) -> bytes:
        """What was written, and so many zeros."""
        return self._out.getvalue() + b"\0" * more
