"""Tiny models with random weights: a BERT with its arithmetic in numpy, a reranker that reads causally."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import gguf
import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]

WIDTH = 32
HEADS_COUNT = 4
LAYERS_COUNT = 2
CONTEXT = 64
EPSILON = 1e-6
PAD, UNK, CLS, SEP, MASK = range(5)
WORDS = ("the", "cat", "sat", "on", "mat", "dog", "ran", "far", "red", "sun", "sea", "bird", "flew", "home")
BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"▁{word}" for word in WORDS))


@dataclass(frozen=True)
class Bert:
    """A model's file and its numbers, by tensor name."""

    path: Path
    tensors: Mapping[str, Floats]

    @staticmethod
    def words(text: str) -> list[int]:
        """Token ids of a text of known words."""
        return [BERT_TOKENS.index(f"▁{word}") if word in WORDS else UNK for word in text.split()]

    def hidden(self, tokens: list[int]) -> Floats:
        """(tokens, width), the last layer's output.  Source: Devlin et al. 2018, "BERT", section 3."""
        t = self.tensors
        x = (
            t["token_embd.weight"][tokens]
            + t["token_types.weight"][0]
            + t["position_embd.weight"][: len(tokens)]
        )
        x = self._norm(x, "token_embd_norm")
        for layer in range(LAYERS_COUNT):
            name = f"blk.{layer}"
            x = self._norm(x + self._attention(x, name), f"{name}.attn_output_norm")
            inner = self._linear(x, f"{name}.ffn_up")
            gelu = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
            x = self._norm(x + self._linear(gelu, f"{name}.ffn_down"), f"{name}.layer_output_norm")
        return x

    def score(self, tokens: list[int]) -> float:
        """What the classification head makes of the first token."""
        pooled = np.tanh(self._linear(self.hidden(tokens)[0], "cls"))
        return float(self._linear(pooled, "cls.output")[0])

    def _attention(self, x: Floats, name: str) -> Floats:
        q, k, v = (
            self._linear(x, f"{name}.attn_{part}").reshape(len(x), HEADS_COUNT, -1).transpose(1, 0, 2)
            for part in "qkv"
        )
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(WIDTH // HEADS_COUNT)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return self._linear((weights @ v).transpose(1, 0, 2).reshape(len(x), WIDTH), f"{name}.attn_output")

    def _linear(self, x: Floats, name: str) -> Floats:
        return x @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def _norm(self, x: Floats, name: str) -> Floats:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPSILON)
        return np.asarray(scaled * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"], np.float32)


def bert(
    path: Path,
    pooling: gguf.PoolingType | None,
    *,
    head: bool = False,
    template: str | None = None,
    ends: bool = False,
) -> Bert:
    """Write a BERT.

    `head`: it can rank; `template`: how it wants query and document; `ends`: texts get an end of their own.
    """
    shapes = _bert_shapes() | (_head_shapes() if head else {})
    tensors = _random(shapes)
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_vocab_size(len(BERT_TOKENS))
    _add_sizes(writer)
    writer.add_layer_norm_eps(EPSILON)
    writer.add_causal_attention(False)
    writer.add_token_type_count(2)
    if pooling is not None:
        writer.add_pooling_type(pooling)
    writer.add_tokenizer_model("bert")
    writer.add_token_list(list(BERT_TOKENS))
    writer.add_token_types([3] * 5 + [1] * len(WORDS))
    writer.add_bos_token_id(CLS)
    writer.add_sep_token_id(SEP)
    writer.add_unk_token_id(UNK)
    writer.add_pad_token_id(PAD)
    writer.add_mask_token_id(MASK)
    writer.add_add_eos_token(ends)
    if template is not None:
        writer.add_string("tokenizer.chat_template.rerank", template)
    _finish(writer, tensors)
    return Bert(path, tensors)


def causal_reranker(path: Path, template: str) -> Path:
    """Write a Qwen3 that says yes or no: its last token has the score."""
    shapes = {
        "token_embd.weight": (3 + 256 + 1, WIDTH),
        "output_norm.weight": (WIDTH,),
        "cls.output.weight": (2, WIDTH),
    }
    for layer in range(LAYERS_COUNT):
        square = {f"attn_{part}": (WIDTH, WIDTH) for part in ("q", "k", "v", "output")}
        norms = {"attn_norm": (WIDTH,), "ffn_norm": (WIDTH,)}
        norms |= {f"attn_{part}_norm": (WIDTH // HEADS_COUNT,) for part in "qk"}
        inner = {"ffn_gate": (2 * WIDTH, WIDTH), "ffn_up": (2 * WIDTH, WIDTH), "ffn_down": (WIDTH, 2 * WIDTH)}
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in (square | norms | inner).items()}
    writer = gguf.GGUFWriter(path, "qwen3")
    _add_sizes(writer)
    writer.add_head_count_kv(HEADS_COUNT)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_key_length(WIDTH // HEADS_COUNT)
    writer.add_value_length(WIDTH // HEADS_COUNT)
    writer.add_pooling_type(gguf.PoolingType.RANK)
    writer.add_classifier_output_labels(["yes", "no"])
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([2, 3, 3, *([6] * 256), 1])
    writer.add_string("tokenizer.chat_template.rerank", template)
    _finish(writer, _random(shapes))
    return path


def _add_sizes(writer: gguf.GGUFWriter) -> None:
    writer.add_type("model")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_block_count(LAYERS_COUNT)
    writer.add_head_count(HEADS_COUNT)


def _bert_shapes() -> dict[str, tuple[int, ...]]:
    """Slowest dimension first, as numpy has them."""
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (len(BERT_TOKENS), WIDTH),
        "position_embd.weight": (CONTEXT, WIDTH),
        "token_types.weight": (2, WIDTH),
        "token_embd_norm.weight": (WIDTH,),
        "token_embd_norm.bias": (WIDTH,),
    }
    for layer in range(LAYERS_COUNT):
        linear = {f"attn_{part}": (WIDTH, WIDTH) for part in ("q", "k", "v", "output")}
        linear |= {"ffn_up": (2 * WIDTH, WIDTH), "ffn_down": (WIDTH, 2 * WIDTH)}
        for name, shape in linear.items():
            shapes |= {f"blk.{layer}.{name}.weight": shape, f"blk.{layer}.{name}.bias": shape[:1]}
        for name in ("attn_output_norm", "layer_output_norm"):
            shapes |= {f"blk.{layer}.{name}.{part}": (WIDTH,) for part in ("weight", "bias")}
    return shapes


def _head_shapes() -> dict[str, tuple[int, ...]]:
    return {
        "cls.weight": (WIDTH, WIDTH),
        "cls.bias": (WIDTH,),
        "cls.output.weight": (1, WIDTH),
        "cls.output.bias": (1,),
    }


def _random(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Floats]:
    """The same numbers every time; texts differ much: large matrices, small biases, norms near 1."""
    numbers = np.random.default_rng(11)
    found = {}
    for name, shape in shapes.items():
        drawn = numbers.normal(0, 0.3 if len(shape) > 1 else 0.05, shape)
        found[name] = (drawn + name.endswith("norm.weight")).astype(np.float32)
    return found


def _finish(writer: gguf.GGUFWriter, tensors: Mapping[str, Any]) -> None:
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
