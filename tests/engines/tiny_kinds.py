"""Tiny models with random weights whose memory is not a plain KV cache: recurrent, hybrid, sliding windows.

What they say is nonsense that depends on every token before it, which is all that is wanted of them.

Source: the `load_arch_tensors` of mamba, jamba and gemma3 in llama.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import gguf
import numpy as np
from tiny_gguf import add

Shapes: TypeAlias = Iterator[tuple[str, tuple[int, ...]]]

WIDTH = 32
INNER = 2 * WIDTH
STATE = 8
CONVOLVED = 4
RANK = 2
HEADS_COUNT = 4
HEAD = WIDTH // HEADS_COUNT
KEPT_HEADS_COUNT = 2
CONTEXT = 512
WINDOW = 16
LAYERS_COUNT = 4
# Whether a hybrid's layer is attention, and whether a layer of the other looks back only so far.
HYBRID = (False, True, False, True)
SLIDING = (True, True, True, False)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
TOKENS = (
    "<unk>",
    "<s>",
    "</s>",
    *(f"<0x{byte:02X}>" for byte in range(256)),
    *(f"▁{letter}" for letter in _LETTERS),
    *(first + second for first in _LETTERS for second in ("", *_LETTERS)),
    *(MARKS := ("<before>", "<behind>", "<gap>")),
)
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"


def write(folder: Path, kind: str, **changed: Any) -> Path:
    """Write the model of this kind; `changed` are metadata keys, `__` for `.`, that are added or changed."""
    path = folder / f"{kind}.gguf"
    own, shapes = _KINDS[kind]
    writer = gguf.GGUFWriter(path, kind)
    keys = {**_every(kind), **{f"{kind}.{key}": value for key, value in own.items()}, **_vocabulary()}
    keys.update({name.replace("__", "."): value for name, value in changed.items()})
    for key, value in keys.items():
        add(writer, key, value)
    writer.add_chat_template(TEMPLATE)
    numbers = np.random.default_rng(11)
    for name, shape in shapes():
        writer.add_tensor(name, _weights(name, shape, numbers))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _weights(name: str, shape: tuple[int, ...], numbers: np.random.Generator) -> Any:
    """Large enough that the next token depends on those before it; what forgets, forgets slowly."""
    if name.endswith("ssm_a"):
        return -numbers.uniform(0.05, 1, shape).astype(np.float32)
    if "norm" in name:
        return np.ones(shape, np.float32)
    scale = 1 if name.startswith("token") else 1.5 / np.sqrt(shape[-1])
    return numbers.normal(0, scale, shape).astype(np.float32)


def _every(kind: str) -> dict[str, Any]:
    return {
        "general.type": "model",
        "general.name": kind,
        f"{kind}.block_count": LAYERS_COUNT,
        f"{kind}.context_length": CONTEXT,
        f"{kind}.embedding_length": WIDTH,
        f"{kind}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{kind}.vocab_size": len(TOKENS),
    }


def _vocabulary() -> dict[str, Any]:
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": list(TOKENS),
        "tokenizer.ggml.scores": [-float(index) for index in range(len(TOKENS))],
        "tokenizer.ggml.token_type": [2, 3, 3, *([6] * 256), *([1] * (len(TOKENS) - 262)), 3, 3, 3],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }


_RECURRENT: Mapping[str, Any] = MappingProxyType(
    {
        "ssm.conv_kernel": CONVOLVED,
        "ssm.inner_size": INNER,
        "ssm.state_size": STATE,
        "ssm.time_step_rank": RANK,
        "feed_forward_length": 0,
        "attention.head_count": 0,
    }
)
_MIXED: Mapping[str, Any] = MappingProxyType(
    {
        **_RECURRENT,
        "feed_forward_length": INNER,
        "attention.head_count": HEADS_COUNT,
        "attention.head_count_kv": [KEPT_HEADS_COUNT * attends for attends in HYBRID],
    }
)
_WINDOWED: Mapping[str, Any] = MappingProxyType(
    {
        "feed_forward_length": INNER,
        "attention.head_count": HEADS_COUNT,
        "attention.head_count_kv": KEPT_HEADS_COUNT,
        "attention.key_length": HEAD,
        "attention.value_length": HEAD,
        "attention.sliding_window": WINDOW,
        "attention.sliding_window_pattern": list(SLIDING),
    }
)


def _ends() -> Shapes:
    yield "token_embd.weight", (len(TOKENS), WIDTH)
    yield "output.weight", (len(TOKENS), WIDTH)
    yield "output_norm.weight", (WIDTH,)


def _remembering(layer: str) -> Shapes:
    """A layer that remembers what it has read as so many numbers, however much that was."""
    yield f"{layer}.attn_norm.weight", (WIDTH,)
    yield f"{layer}.ssm_in.weight", (2 * INNER, WIDTH)
    yield f"{layer}.ssm_conv1d.weight", (INNER, CONVOLVED)
    yield f"{layer}.ssm_conv1d.bias", (INNER,)
    yield f"{layer}.ssm_x.weight", (RANK + 2 * STATE, INNER)
    yield f"{layer}.ssm_dt.weight", (INNER, RANK)
    yield f"{layer}.ssm_dt.bias", (INNER,)
    yield f"{layer}.ssm_a", (INNER, STATE)
    yield f"{layer}.ssm_d", (INNER,)
    yield f"{layer}.ssm_out.weight", (WIDTH, INNER)


def _attending(layer: str) -> Shapes:
    yield f"{layer}.attn_norm.weight", (WIDTH,)
    yield f"{layer}.attn_q.weight", (WIDTH, WIDTH)
    yield f"{layer}.attn_k.weight", (KEPT_HEADS_COUNT * HEAD, WIDTH)
    yield f"{layer}.attn_v.weight", (KEPT_HEADS_COUNT * HEAD, WIDTH)
    yield f"{layer}.attn_output.weight", (WIDTH, WIDTH)


def _feeding(layer: str) -> Shapes:
    yield f"{layer}.ffn_norm.weight", (WIDTH,)
    yield f"{layer}.ffn_gate.weight", (INNER, WIDTH)
    yield f"{layer}.ffn_up.weight", (INNER, WIDTH)
    yield f"{layer}.ffn_down.weight", (WIDTH, INNER)


def _mamba() -> Shapes:
    yield from _ends()
    for layer in range(LAYERS_COUNT):
        yield from _remembering(f"blk.{layer}")


def _jamba() -> Shapes:
    yield from _ends()
    for number, attends in enumerate(HYBRID):
        layer = f"blk.{number}"
        yield from _attending(layer) if attends else _remembering(layer)
        yield from _feeding(layer)
        if not attends:
            yield f"{layer}.ssm_dt_norm.weight", (RANK,)
            yield f"{layer}.ssm_b_norm.weight", (STATE,)
            yield f"{layer}.ssm_c_norm.weight", (STATE,)


def _gemma3() -> Shapes:
    yield from _ends()
    for number in range(LAYERS_COUNT):
        layer = f"blk.{number}"
        yield from _attending(layer)
        yield from _feeding(layer)
        for name in ("attn_k_norm", "attn_q_norm"):
            yield f"{layer}.{name}.weight", (HEAD,)
        for name in ("post_attention_norm", "post_ffw_norm"):
            yield f"{layer}.{name}.weight", (WIDTH,)


_KINDS: Mapping[str, tuple[Mapping[str, Any], Callable[[], Shapes]]] = MappingProxyType(
    {"mamba": (_RECURRENT, _mamba), "jamba": (_MIXED, _jamba), "gemma3": (_WINDOWED, _gemma3)}
)
