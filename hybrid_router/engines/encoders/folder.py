"""Whether a model's folder may be opened at all: before any library looks at it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, TypeAlias

from hybrid_router.engines.task import EngineFailed

Purpose: TypeAlias = Literal["embed", "rerank"]

# Each does arithmetic alone.  Others bring tokenizers of their own, or load code.
_KNOWN = frozenset(
    {"Transformer", "Pooling", "Normalize", "Dense", "LayerNorm", "Dropout", "WeightedLayerPooling"}
)
_WITH_WEIGHTS = frozenset({"Transformer", "Dense", "LayerNorm", "WeightedLayerPooling"})
_LIBRARY = "sentence_transformers."
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
_KINDS = {"embed": "SentenceTransformer", "rerank": "CrossEncoder"}


def check(folder: Path, purpose: Purpose) -> None:
    """Refuse what would run code, read a pickle, or is something else than `purpose` wants.

    Raises:
        EngineFailed: names the file and the reason.
    """
    if not folder.is_dir():
        raise EngineFailed(f"{folder}: there is no such folder; an encoder is a folder of files")
    if (folder / "adapter_config.json").exists():
        raise EngineFailed(f"{folder / 'adapter_config.json'}: an adapter; merge it into its model first")
    written = _object(folder / "config_sentence_transformers.json", {})
    kind = written.get("model_type", _KINDS[purpose])
    if kind != _KINDS[purpose]:
        raise EngineFailed(f"{folder}: a {kind}; `purpose: {purpose}` takes a {_KINDS[purpose]}")
    modules = _modules(folder)
    for at, (name, place) in enumerate(modules):
        if name not in _KNOWN or (at == 0) != (name == "Transformer"):
            raise EngineFailed(f"{folder / 'modules.json'}: module {at} is {name}, which is not supported")
        if name in _WITH_WEIGHTS:
            _check_weights(place)
    _check_purpose(folder, purpose, modules)


def _modules(folder: Path) -> list[tuple[str, Path]]:
    """Name and folder of each; a plain transformers folder is one Transformer."""
    path = folder / "modules.json"
    if not path.exists():
        return [("Transformer", folder)]
    try:
        found = [(str(one["type"]), str(one["path"])) for one in json.loads(path.read_bytes())]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise EngineFailed(f"{path}: not a list of modules ({error})") from error
    modules = []
    for kind, place in found:
        if not kind.startswith(_LIBRARY):
            raise EngineFailed(f"{path}: {kind} is code that comes with the model; none of that is run")
        inside = (folder / place).resolve()
        if not inside.is_relative_to(folder.resolve()):
            raise EngineFailed(f"{path}: {place} is outside the model's folder")
        modules.append((kind.rpartition(".")[2], inside))
    if not modules:
        raise EngineFailed(f"{path}: there is no module in it")
    return modules


def _check_weights(folder: Path) -> None:
    """There must be safetensors: anything else that holds weights is a pickle, which may hold a program."""
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise EngineFailed(
            f"{folder / pickles[0]}: a pickle, which may hold a program; save it as safetensors"
        )
    raise EngineFailed(f"{folder}: there are no weights (*.safetensors) in it")


def _check_purpose(folder: Path, purpose: Purpose, modules: list[tuple[str, Path]]) -> None:
    """To have an embedder rank, the library would put a layer of random weights on it."""
    if purpose == "rerank" and "Pooling" in dict(modules):
        raise EngineFailed(f"{folder / 'modules.json'}: it gives vectors, not scores; set `purpose: embed`")
    if purpose == "embed" and not (folder / "modules.json").exists():
        _check_is_no_classifier(folder)


def _check_is_no_classifier(folder: Path) -> None:
    names = _object(folder / "config.json", {}).get("architectures") or [""]
    if str(names[0]).endswith("ForSequenceClassification"):
        raise EngineFailed(f"{folder / 'config.json'}: {names[0]} gives scores; set `purpose: rerank`")


def _object(path: Path, otherwise: dict[str, Any]) -> dict[str, Any]:
    """A file's JSON object; `otherwise` if there is no such file."""
    if not path.exists():
        return otherwise
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EngineFailed(f"{path}: not JSON ({error})") from error
    if not isinstance(found, dict):
        raise EngineFailed(f"{path}: not a JSON object")
    return found
