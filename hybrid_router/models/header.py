"""What model files say of themselves."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hybrid_router.engines.llama import gguf
from hybrid_router.engines.llama.outline import outline
from hybrid_router.engines.task import EngineFailed
from hybrid_router.models.contents import ctranslate2_kind
from hybrid_router.models.errors import ModelFileError

# ggml_type of ggml.h, by the names that publishers use.
_QUANTISATIONS: Mapping[int, str] = MappingProxyType(
    {
        0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K",
        11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS",
        18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 29: "IQ1_M",
        30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
    }
)  # fmt: skip
# llama_ftype of llama.h: the recipe, which mixes types.
_RECIPES: Mapping[int, str] = MappingProxyType(
    {
        0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
        12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
        19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
        26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16",
        36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
    }
)  # fmt: skip
_CONFIG_BYTES = 4 << 20
_TOLD = (
    "architectures", "model_type", "max_position_embeddings", "hidden_size", "num_hidden_layers",
    "vocab_size", "torch_dtype", "dtype", "num_labels",
)  # fmt: skip


def describe(path: Path) -> dict[str, str]:
    """What is worth knowing of a model, in words.  Reads headers, not weights.

    Raises:
        ModelFileError: a GGUF is damaged.
    """
    if path.is_dir():
        return _of_folder(path)
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            return {}
    try:
        return _of_gguf(path)
    except EngineFailed as e:
        raise ModelFileError(f"{path.name} cannot be read as a GGUF", detail=str(e)) from e


def _of_gguf(path: Path) -> dict[str, str]:
    found = gguf.read(path)
    metadata = found.metadata
    told = {"architecture": _text(metadata.get("general.architecture"))}
    told["title"] = _text(metadata.get("general.name"))
    told["quantisation"] = _quantisation(found)
    told["parameters"] = f"{sum(_count(tensor.shape) for tensor in found.tensors):,}"
    try:
        model = outline(str(path), found)
    except EngineFailed as e:  # an adapter, a projector: no model by itself
        told["kind"] = str(e).rpartition(": ")[2]
        return _filled(told)
    told |= {
        "context": f"{model.context:,} tokens",
        "layers": f"{model.layers_count} layers, {model.width} wide",
        "vocabulary": f"{model.vocabulary_count:,} tokens",
        "chat template": _template(metadata.get("tokenizer.chat_template")),
    }
    return _filled(told)


def _filled(told: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in told.items() if value}


def _text(value: object) -> str:
    """A text of the file, without what a terminal would act on."""
    return "".join(c for c in value if c.isprintable())[:200] if isinstance(value, str) else ""


def _template(value: object) -> str:
    if not isinstance(value, str) or not value:
        return "none: a base model, or one that is no chat model"
    return f"sha256 {hashlib.sha256(value.encode()).hexdigest()}"


def _quantisation(found: gguf.Gguf) -> str:
    """The recipe that the file names, and the type that most bytes have."""
    sizes: Counter[int] = Counter()
    for tensor in found.tensors:
        sizes[tensor.kind] += tensor.size_bytes
    if not sizes:
        return ""
    kind, _ = sizes.most_common(1)[0]
    mostly = _QUANTISATIONS.get(kind, f"type {kind}")
    named = found.metadata.get("general.file_type")
    recipe = _RECIPES.get(named, mostly) if isinstance(named, int) else mostly
    return recipe if recipe == mostly else f"{recipe}, most bytes {mostly}"


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for dimension in shape:
        count *= dimension
    return count


def _of_folder(path: Path) -> dict[str, str]:
    told: dict[str, str] = {}
    if (kind := ctranslate2_kind(path / "model.bin")) is not None:
        told["ctranslate2"] = kind
    config = _json(path / "config.json")
    told |= {key: _shown(config[key]) for key in _TOLD if key in config}
    index = _json(path / "model_index.json")
    if index:
        told["pipeline"] = _shown(index.get("_class_name"))
    return _filled(told)


def _shown(value: Any) -> str:
    return _text(", ".join(map(str, value)) if isinstance(value, list) else str(value))


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _CONFIG_BYTES:
            return {}
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
