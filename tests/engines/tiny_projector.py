"""Tiny projectors with random weights: for images, with attention one way or both ways, and for sound.

And tiny models to go with them, whose next token depends on every token before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tiny_gguf import add

WIDTH = 32
HEADS_COUNT = 4
LAYERS_COUNT = 2
PATCH = 8
IMAGE = 32
MEL_COUNT = 80
SOUND_PLACES = 1500  # 30 s
STACKED = 50  # so many of them become one token

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}<assistant>"
SOUND_TOKENS = SOUND_PLACES // STACKED


def write(path: Path, kind: str = "mlp", width: int = WIDTH, **changed: Any) -> Path:
    """Write a projector for a model of `width`.

    `kind`: "mlp" (LLaVA's: a token for each patch), "gemma3" (so too; they attend to each other),
    "qwen2vl_merger" (rows and columns have places of their own), "idefics3" (with words of its own around
    them), "ultravox" (sound).  `changed` are metadata
    keys, `__` for `.`, that get another value.
    """
    sound = kind == "ultravox"
    writer = gguf.GGUFWriter(path, "clip")
    keys = {**_keys(width, kind, sound=sound), **{key.replace("__", "."): v for key, v in changed.items()}}
    for key, value in keys.items():
        add(writer, key, value)
    numbers = np.random.default_rng(11)
    for name, shape in _shapes(width, kind):
        writer.add_tensor(name, _weights(name, shape, numbers))
    _written(writer)
    return path


def write_model(path: Path, kind: str = "llama", context: int = 1024) -> Path:
    """Write a model that these projectors fit.  `kind`: "llama", or "qwen2vl", for images in rows."""
    writer = gguf.GGUFWriter(path, kind)
    for key, value in {**_model_keys(kind, context), **_vocabulary()}.items():
        add(writer, key, value)
    writer.add_chat_template(TEMPLATE)
    numbers = np.random.default_rng(12)
    for name, shape in _model_shapes(kind):
        writer.add_tensor(name, _weights(name, shape, numbers))
    _written(writer)
    return path


def _weights(name: str, shape: tuple[int, ...], numbers: np.random.Generator) -> Any:
    if any(part in name for part in ("ln", "norm")) and name.endswith("weight"):
        return np.ones(shape, np.float32)
    # The library wants the weights of convolutions as halves.
    kind = np.float16 if "conv1d" in name and name.endswith("weight") else np.float32
    return numbers.normal(0, 0.3, shape).astype(kind)


def _written(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _model_keys(kind: str, context: int) -> dict[str, Any]:
    keys: dict[str, Any] = {
        "general.type": "model",
        f"{kind}.block_count": LAYERS_COUNT,
        f"{kind}.context_length": context,
        f"{kind}.embedding_length": WIDTH,
        f"{kind}.feed_forward_length": 2 * WIDTH,
        f"{kind}.attention.head_count": HEADS_COUNT,
        f"{kind}.attention.head_count_kv": HEADS_COUNT,
        f"{kind}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{kind}.rope.dimension_count": WIDTH // HEADS_COUNT,
    }
    return keys if kind == "llama" else {**keys, f"{kind}.rope.dimension_sections": [2, 1, 1, 0]}


def _vocabulary() -> dict[str, Any]:
    """Three special tokens, all bytes, the letters."""
    letters = [*"abcdefghijklmnopqrstuvwxyz", "▁"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [-float(index) for index in range(len(tokens))],
        "tokenizer.ggml.token_type": [2, 3, 3, *([6] * 256), *([1] * len(letters))],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }


def _model_shapes(kind: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "token_embd.weight", (3 + 256 + 27, WIDTH)
    yield "output_norm.weight", (WIDTH,)
    for layer in range(LAYERS_COUNT):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield f"blk.{layer}.{part}.weight", (WIDTH, WIDTH)
            if kind != "llama" and part != "attn_output":
                yield f"blk.{layer}.{part}.bias", (WIDTH,)
        yield f"blk.{layer}.attn_norm.weight", (WIDTH,)
        yield f"blk.{layer}.ffn_norm.weight", (WIDTH,)
        yield f"blk.{layer}.ffn_gate.weight", (2 * WIDTH, WIDTH)
        yield f"blk.{layer}.ffn_up.weight", (2 * WIDTH, WIDTH)
        yield f"blk.{layer}.ffn_down.weight", (WIDTH, 2 * WIDTH)


def _patch(kind: str) -> int:
    """Smaller ones where all of an image is computed at once: more tokens than a small batch has."""
    return PATCH // 2 if kind == "gemma3" else PATCH


def _keys(width: int, kind: str, *, sound: bool) -> dict[str, Any]:
    which = "audio" if sound else "vision"
    keys: dict[str, Any] = {
        "general.type": "mmproj",
        f"clip.has_{which}_encoder": True,
        "clip.projector_type": kind,
        "clip.use_gelu": True,
        f"clip.{which}.embedding_length": WIDTH,
        f"clip.{which}.attention.head_count": HEADS_COUNT,
        f"clip.{which}.feed_forward_length": 2 * WIDTH,
        f"clip.{which}.block_count": LAYERS_COUNT,
        f"clip.{which}.projection_dim": width,
        f"clip.{which}.attention.layer_norm_epsilon": 1e-5,
    }
    if sound:
        return {**keys, "clip.audio.num_mel_bins": MEL_COUNT, "clip.audio.projector.stack_factor": STACKED}
    return {
        **keys,
        "clip.vision.image_size": IMAGE,
        "clip.vision.preproc_image_size": 4 * IMAGE,
        "clip.vision.patch_size": _patch(kind),
        "clip.vision.projector.scale_factor": 2 if kind == "idefics3" else 1,
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
    }


def _shapes(width: int, kind: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Slowest dimension first, as numpy has them."""
    sound = kind == "ultravox"
    biased = {"ultravox": "qv", "qwen2vl_merger": "qkv"}.get(kind, "")
    yield from _encoder("a" if sound else "v", biased)
    if sound:
        yield "a.position_embd.weight", (SOUND_PLACES, WIDTH)
        yield "a.conv1d.1.weight", (WIDTH, MEL_COUNT, 3)
        yield "a.conv1d.1.bias", (WIDTH, 1)
        yield "a.conv1d.2.weight", (WIDTH, WIDTH, 3)
        yield "a.conv1d.2.bias", (WIDTH, 1)
        yield "mm.a.norm_pre.weight", (STACKED * WIDTH,)
        yield "mm.a.mlp.1.weight", (2 * WIDTH, STACKED * WIDTH)
        yield "mm.a.norm_mid.weight", (WIDTH,)
        yield "mm.a.mlp.2.weight", (width, WIDTH)
        return
    patch = _patch(kind)
    yield "v.patch_embd.weight", (WIDTH, 3, patch, patch)
    if kind == "qwen2vl_merger":
        yield "v.patch_embd.weight.1", (WIDTH, 3, patch, patch)
        yield "v.post_ln.weight", (WIDTH,)
        yield "v.post_ln.bias", (WIDTH,)
        yield "mm.0.weight", (4 * WIDTH, 4 * WIDTH)
        yield "mm.0.bias", (4 * WIDTH,)
        yield "mm.2.weight", (width, 4 * WIDTH)
        yield "mm.2.bias", (width,)
        return
    yield "v.position_embd.weight", ((IMAGE // patch) ** 2, WIDTH)
    if kind == "gemma3":
        yield "mm.input_projection.weight", (WIDTH, width)
        yield "mm.soft_emb_norm.weight", (WIDTH,)
    elif kind == "idefics3":
        yield "mm.model.fc.weight", (width, 4 * WIDTH)
    else:
        yield "mm.0.weight", (WIDTH, WIDTH)
        yield "mm.0.bias", (WIDTH,)
        yield "mm.2.weight", (width, WIDTH)
        yield "mm.2.bias", (width,)


def _encoder(prefix: str, biased: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    for layer in range(LAYERS_COUNT):
        for name, shape in {
            "ln1.weight": (WIDTH,),
            "ln1.bias": (WIDTH,),
            "attn_q.weight": (WIDTH, WIDTH),
            "attn_k.weight": (WIDTH, WIDTH),
            "attn_v.weight": (WIDTH, WIDTH),
            "attn_out.weight": (WIDTH, WIDTH),
            "ln2.weight": (WIDTH,),
            "ln2.bias": (WIDTH,),
            "ffn_up.weight": (2 * WIDTH, WIDTH),
            "ffn_down.weight": (WIDTH, 2 * WIDTH),
        }.items():
            yield f"{prefix}.blk.{layer}.{name}", shape
        for part in biased:
            yield f"{prefix}.blk.{layer}.attn_{part}.bias", (WIDTH,)
