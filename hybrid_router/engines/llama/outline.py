"""What a GGUF's metadata says of the model in it: enough to judge what fits where.

Source: llama-hparams.cpp and llama-arch.cpp of llama.cpp as llama-cpp-python 0.3.36 wraps it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hybrid_router.engines.llama.gguf import Array, Gguf, Tensor
from hybrid_router.engines.task import EngineFailed

_MOST_LAYERS = 512  # LLAMA_MAX_LAYERS; more than that and llama.cpp ends the process
_MOST_WIDTH = 1 << 20
_MOST_TOKENS = 1 << 31
_STATE_BYTES = 4  # of each number that a recurrent layer keeps
_LAYER = re.compile(r"blk\.(\d{1,4})\.", re.ASCII)
# Files of one model that llama.cpp opens beside another, and what says so.
_ADAPTER, _PROJECTOR = "adapter", "clip"


@dataclass(frozen=True)
class Outline:
    """What a model is, as far as its file's header tells.

    Attributes:
        architecture: llama.cpp's name of it.
        layers_count: repeating layers.
        context: tokens it was trained for.
        width: of its embeddings.
        cells: numbers that a token's key and value have in each layer; (0, 0): it keeps none.
        key_size: numbers of one head's key, in layers that look back all the way.
        value_size: numbers of one head's value, likewise.
        window: tokens that sliding-window layers look back; 0: there are none.
        layer_bytes: each layer's weights.
        output_bytes: what turns the last layer into logits.
        size_bytes: of the file.
        vocabulary_count: its tokens.
        pooling: `llama_pooling_type` of the metadata; None: it says nothing.
        has_template: whether there is a chat template.
        state_bytes: of what recurrent layers keep of one sequence, however long; 0: there are none.
    """

    architecture: str
    layers_count: int
    context: int
    width: int
    cells: tuple[tuple[int, int], ...]
    key_size: int
    value_size: int
    window: int
    layer_bytes: tuple[int, ...]
    output_bytes: int
    size_bytes: int
    vocabulary_count: int
    pooling: int | None = None
    has_template: bool = False
    state_bytes: int = 0


def outline(path: str, gguf: Gguf) -> Outline:
    """Read a model's header.

    Raises:
        EngineFailed: it is no model that answers by itself, or says what no model is; `path: reason`.
    """
    try:
        return _Reading(gguf).outline()
    except ValueError as wrong:
        raise EngineFailed(f"{path}: {wrong}") from None


class _Reading:
    """Takes values out of metadata, and raises ValueError for what they cannot be."""

    def __init__(self, gguf: Gguf) -> None:
        self._gguf = gguf
        self._architecture = self._word("general.architecture")

    def outline(self) -> Outline:
        self._check_kind()
        layers_count = self._own("block_count", most=_MOST_LAYERS)
        width = self._own("embedding_length", most=_MOST_WIDTH)
        key_size, value_size = self._head_sizes(width)
        layers, output_bytes = _weights(self._gguf.tensors, layers_count)
        return Outline(
            architecture=self._architecture,
            layers_count=layers_count,
            context=self._own("context_length", most=_MOST_TOKENS),
            width=width,
            cells=self._cells(layers_count, width),
            key_size=key_size,
            value_size=value_size,
            window=self._own("attention.sliding_window", least=0, most=_MOST_TOKENS, default=0),
            layer_bytes=layers,
            output_bytes=output_bytes,
            size_bytes=self._gguf.size_bytes,
            vocabulary_count=self._vocabulary_count(),
            pooling=self._pooling(),
            has_template=bool(self._gguf.metadata.get("tokenizer.chat_template")),
            state_bytes=layers_count * self._state_count(width) * _STATE_BYTES,
        )

    def _check_kind(self) -> None:
        kind = self._gguf.metadata.get("general.type")
        if kind == _ADAPTER:
            raise ValueError("a LoRA adapter, not a model: name it under `adapters` of its model")
        if self._architecture == _PROJECTOR:
            raise ValueError("a projector, not a model: name it as `projector` of its model")
        parts = self._number("split.count", least=0, most=1 << 16, default=0)
        if parts > 1:
            raise ValueError(f"one of {parts} parts of a model: join them with `llama-gguf-split --merge`")
        if not self._gguf.tensors:
            raise ValueError("holds no tensors, only a vocabulary")

    def _head_sizes(self, width: int, of: str = "") -> tuple[int, int]:
        """Numbers of one head's key and value; `of`: of which kind of layer."""
        heads = max(self._by_layer("attention.head_count", default=0))
        usual = width // heads if heads else 0
        key, value = (
            self._own(f"attention.{name}{of}", least=0, most=_MOST_WIDTH, default=usual)
            for name in ("key_length", "value_length")
        )
        return key, value

    def _cells(self, layers_count: int, width: int) -> tuple[tuple[int, int], ...]:
        """What each layer keeps of a token.  Layers without heads, and those that share, keep none."""
        heads = self._by_layer("attention.head_count_kv", default=None)
        heads = heads or self._by_layer("attention.head_count", default=0)
        if len(heads) == 1:
            heads *= layers_count
        if len(heads) < layers_count:
            raise ValueError(f"says the heads of {len(heads)} layers, and has {layers_count}")
        shared_count = self._own("attention.shared_kv_layers", least=0, most=layers_count, default=0)
        heads = heads[:layers_count]
        heads[layers_count - shared_count :] = [0] * shared_count
        sizes = self._sizes_by_layer(layers_count, width)
        return tuple((count * key, count * value) for count, (key, value) in zip(heads, sizes, strict=True))

    def _sizes_by_layer(self, layers_count: int, width: int) -> list[tuple[int, int]]:
        """Sliding-window layers may have heads of another size, if the file says which layers they are."""
        full = self._head_sizes(width)
        pattern = self._gguf.metadata.get(f"{self._architecture}.attention.sliding_window_pattern")
        if f"{self._architecture}.attention.key_length_swa" not in self._gguf.metadata:
            return [full] * layers_count
        sliding = self._head_sizes(width, "_swa")
        said = (pattern.values or ()) if isinstance(pattern, Array) else ()
        if len(said) != layers_count:
            return [max(full, sliding)] * layers_count
        return [sliding if slides else full for slides in said]

    def _state_count(self, width: int) -> int:
        """Numbers that a recurrent layer keeps of a sequence, as if every layer were one.

        Source: `n_embd_r` and `n_embd_s` of llama_hparams.
        """
        heads_count = max(self._by_layer("attention.head_count", default=0))
        inner, state, groups, kernel, short, wkv, kda = (
            self._own(name, least=0, most=_MOST_WIDTH, default=0)
            for name in (
                "ssm.inner_size",
                "ssm.state_size",
                "ssm.group_count",
                "ssm.conv_kernel",
                "shortconv.l_cache",
                "wkv.head_size",
                "kda.head_dim",
            )
        )
        count = inner * state + kernel * (inner + 2 * groups * state) + short * width
        count += (wkv + 2) * width if wkv else 0
        return count + kda * heads_count * (kda + 3 * max(kernel, 4))

    def _vocabulary_count(self) -> int:
        tokens = self._gguf.metadata.get("tokenizer.ggml.tokens")
        if isinstance(tokens, Array):
            return tokens.count
        return self._own("vocab_size", least=0, most=_MOST_TOKENS, default=0)

    def _pooling(self) -> int | None:
        key = f"{self._architecture}.pooling_type"
        return self._number(key, least=0, most=255) if key in self._gguf.metadata else None

    def _word(self, key: str) -> str:
        value = self._gguf.metadata.get(key)
        if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= 64:  # noqa: PLR2004
            raise ValueError(f"its metadata has no {key}")
        return value

    def _own(self, name: str, *, least: int = 1, most: int, default: int | None = None) -> int:
        """A number that every architecture has under its own name."""
        return self._number(f"{self._architecture}.{name}", least=least, most=most, default=default)

    def _number(self, key: str, *, least: int, most: int, default: int | None = None) -> int:
        value = self._gguf.metadata.get(key, default)
        if value is None:
            raise ValueError(f"its metadata has no {key}")
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"its metadata's {key} is not a whole number from {least} to {most}")
        return value

    def _by_layer(self, name: str, *, default: int | None) -> list[int]:
        """One number, or one for each layer; empty if there is none and no default."""
        key = f"{self._architecture}.{name}"
        value = self._gguf.metadata.get(key, default)
        if value is None:
            return []
        if not isinstance(value, Array):
            return [self._number(key, least=0, most=_MOST_WIDTH, default=default)]
        counts = value.values or ()
        if not counts or not all(isinstance(count, int) and 0 <= count <= _MOST_WIDTH for count in counts):
            raise ValueError(f"its metadata's {key} is not a list of whole numbers")
        return [int(count) for count in counts]


def _weights(tensors: tuple[Tensor, ...], layers_count: int) -> tuple[tuple[int, ...], int]:
    """Bytes of each layer, and of the output.  Without a matrix of its own it is the input's, once more."""
    layers = [0] * layers_count
    output_bytes = input_bytes = 0
    tied = True
    for tensor in tensors:
        found = _LAYER.match(tensor.name)
        if found and int(found[1]) < layers_count:
            layers[int(found[1])] += tensor.size_bytes
        elif tensor.name.startswith("output"):
            tied = tied and tensor.name != "output.weight"
            output_bytes += tensor.size_bytes
        elif tensor.name == "token_embd.weight":
            input_bytes = tensor.size_bytes
    return tuple(layers), output_bytes + (input_bytes if tied else 0)
