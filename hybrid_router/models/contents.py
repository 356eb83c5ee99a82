"""What a model's files are: which may be taken, and which engine opens them."""

from __future__ import annotations

import json
import re
import struct
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct, field

from hybrid_router.engines.llama import gguf
from hybrid_router.engines.task import EngineFailed
from hybrid_router.models.entry import RelativePath
from hybrid_router.models.errors import ModelFileError

# What engines read.  Whatever else a publisher adds (pictures, notes, code) stays where it is.
_READ = frozenset(
    {
        *(".gguf", ".safetensors", ".onnx", ".onnx_data", ".bin", ".npy", ".npz"),
        *(".json", ".jsonl", ".yaml", ".yml", ".txt", ".jinja", ".gz"),
        *(".model", ".spm", ".bpe", ".tiktoken", ".vocab"),
    }
)
_PICKLES = frozenset({".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin", ".npz", ".npy"})
_WEIGHTS = frozenset({".bin", ".gguf", ".onnx", ".safetensors"})
_LOOKED_FOR = "*.gguf, *.safetensors, *.onnx or CTranslate2's model.bin"
_MOST_NAMED = 5
# One pickle is known: EfficientNet-Lite0 as its package has it, of which the engine reads only tensors.
_KNOWN_PICKLES = frozenset({"579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"})
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.gguf\Z")
_CONFIG_BYTES = 4 << 20
_CONFIGS = frozenset(
    {
        *("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json"),
        *("modules.json", "model_index.json"),
    }
)
_CODE = re.compile(r"\.(py|so|dll|dylib|sh|exe)\Z", re.IGNORECASE)
_CTRANSLATE2: Mapping[str, str] = MappingProxyType({"WhisperSpec": "whisper", "TransformerSpec": "translate"})
_MOST_SPEC_BYTES = 64
_GGUF = b"GGUF"


class Refused(ModelFileError):
    """A file or repository that is not taken: it would run code, or no engine opens it."""


class Sorted(Struct, frozen=True, kw_only=True):
    """Names of files: those that are taken, and why the others are not."""

    taken: tuple[str, ...]
    left: dict[str, str] = field(default_factory=dict)


def sort(paths: Iterable[str], where: str) -> Sorted:
    """Part what an engine may read from what it may not, by name alone.  `where`: what holds them.

    Raises:
        Refused: nothing is left that holds weights; names the pickles, if there are any.
    """
    taken, left = [], {}
    for path in sorted(paths):
        reason = _reason(path)
        if reason is None:
            taken.append(path)
        else:
            left[path] = reason
    if not any(PurePosixPath(path).suffix in _WEIGHTS for path in taken):
        pickles = [path for path in left if PurePosixPath(path).suffix in _PICKLES]
        if pickles:
            raise Refused(
                f"{', '.join(pickles[:3])}: a pickle runs code when it is loaded, so it is refused; "
                "ask for the same model as safetensors, GGUF, ONNX or CTranslate2"
            )
        raise Refused(
            f"there are no weights in {where}: looked for {_LOOKED_FOR}, found {few([*taken, *left])}; "
            "name what holds one of these"
        )
    return Sorted(taken=tuple(taken), left=left)


def few(paths: Iterable[str], most: int = _MOST_NAMED) -> str:
    """Names of files for people: the first ones, `most` of them, and how many more there are."""
    named = sorted("".join(c if c.isprintable() else "?" for c in path) for path in paths)
    more = len(named) - most
    return (", ".join(named[:most]) or "nothing") + (f" and {more} more" if more > 0 else "")


def one_gguf(paths: Iterable[str], where: str, choose: str) -> str | None:
    """The one GGUF among files; None if there is none.

    Raises:
        Refused: there are several; `choose` says how one is chosen.
    """
    found = [path for path in paths if path.endswith(".gguf")]
    if len(found) <= 1:
        return found[0] if found else None
    if all(_SHARD.search(path) for path in found):
        raise Refused(
            f"{where} holds one model in {len(found)} parts: join them with `llama-gguf-split --merge` "
            "and add the whole"
        )
    raise Refused(f"{where} holds several models: {choose} {', '.join(found)}")


def _reason(path: str) -> str | None:
    """Why a file is not taken, None if it is."""
    name = PurePosixPath(path)
    try:
        msgspec.convert(path, RelativePath)
    except msgspec.ValidationError:
        return "hidden, or not a name that a manifest can hold"
    if _CODE.search(path):
        return "code"
    # CTranslate2 calls its weights so; whether they are is checked when they are there.
    named_so = name.name == "model.bin" or name.suffix in {".npz", ".npy"}
    if name.suffix in _PICKLES and not named_so and not _may_be_voices(name.name):
        return "a pickle"
    return None if name.suffix in _READ else "not read by any engine"


def _may_be_voices(name: str) -> bool:
    """Kokoro's `voices-….bin` is an archive of arrays."""
    return name.startswith("voices") and name.endswith(".bin")


def check(folder: Path, paths: Iterable[str]) -> None:
    """Make sure, by what is in them, that files run no code when they are loaded.

    Raises:
        Refused: names the file and what it asks for.
    """
    for path in paths:
        name = PurePosixPath(path)
        if name.suffix in _PICKLES and not _is_harmless(folder / path):
            raise Refused(f"{path} is a pickle, or no CTranslate2 model and no archive of arrays: refused")
        if name.suffix == ".json":
            _check_config(folder / path, path)


def check_kind(path: Path, name: str, engine: str | None) -> None:
    """Make sure that one file is a model by itself, before any more of it is read.

    Args:
        name: what it is called, if that is another name than the path's.
        engine: who is to open it; None: nobody said.

    Raises:
        Refused: it is no model, or one file of several; says what was looked for and what there is.
    """
    head, suffix = _head(path), PurePosixPath(name).suffix
    if head == _GGUF or suffix == ".gguf" or engine == "llama":
        _check_gguf(path, name)
    elif suffix not in _WEIGHTS | _PICKLES:
        size_bytes = path.stat().st_size
        found = f"{size_bytes:,} bytes that begin with {head!r}" if head else "an empty file"
        raise Refused(
            f"{name} is no model: looked for a GGUF, which begins with {_GGUF!r}, found {found}; "
            f"name a GGUF, or a folder with {_LOOKED_FOR}"
        )
    elif engine is None and (suffix in {".safetensors", ".onnx"} or ctranslate2_kind(path) is not None):
        raise Refused(
            f"{name} is one of a model's files: name the folder that has all of them, "
            f"`hybrid-router models add {path.absolute().parent}`"
        )


def _check_gguf(path: Path, name: str) -> None:
    try:
        gguf.read(path)
    except EngineFailed as e:
        raise Refused(
            f"{name} is no GGUF that can be read, or only the beginning of one: "
            "download or copy it again, and compare its size with the publisher's",
            detail=str(e),
        ) from e


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_GGUF))


def check_file(path: Path, sha256: str) -> None:
    """The same for a model of one file.

    Raises:
        Refused: it is a pickle.
    """
    if sha256 not in _KNOWN_PICKLES and path.suffix in _PICKLES and not _is_harmless(path):
        raise Refused(
            f"{path.name} is a pickle, which runs code when it is loaded, or something else that no engine "
            "opens: refused; ask for the same model as GGUF, safetensors, ONNX or CTranslate2"
        )


def _is_harmless(path: Path) -> bool:
    """Whether a file is CTranslate2's, one array of plain numbers, or an archive of such."""
    if path.suffix == ".bin" and ctranslate2_kind(path) is not None:
        return True
    with path.open("rb") as file:
        if path.suffix == ".npy":
            return file.read(6) == b"\x93NUMPY"  # loaded with allow_pickle off
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def _check_config(path: Path, shown: str) -> None:
    """Transformers, diffusers and sentence-transformers import what these keys name."""
    config = _json(path)
    if config is None and path.name in _CONFIGS:
        raise Refused(f"{shown} cannot be read, so nobody knows whether the model wants to run code: refused")
    if isinstance(config, dict) and "auto_map" in config:
        raise Refused(
            f"{shown} has `auto_map`: the model comes with code of its own (trust_remote_code), "
            "which is never run; choose a model whose architecture the library knows"
        )
    if path.name == "modules.json" and isinstance(config, list):
        for module in config:
            kind = str(module.get("type", "")) if isinstance(module, dict) else ""
            if not kind.startswith("sentence_transformers."):
                raise Refused(f"{shown} names {kind!r}, which is code of its own: refused")
    if path.name == "model_index.json" and isinstance(config, dict):
        _check_pipeline(config, shown)


def _check_pipeline(config: dict[str, Any], shown: str) -> None:
    for component, made_of in config.items():
        if not isinstance(made_of, list) or component == "_ignore_files":
            continue
        if made_of and made_of[0] not in {None, "diffusers", "transformers", "stable_diffusion"}:
            raise Refused(
                f"{shown} takes `{component}` from {made_of[0]!r}, which is code of its own: refused"
            )


def engine_of(folder: Path, paths: Iterable[str]) -> str:
    """The engine that opens a folder's files; "" if that cannot be told."""
    names = set(paths)
    if "model_index.json" in names:
        return "images"
    if {"modules.json", "config_sentence_transformers.json"} & names:
        return "sentence_transformers"
    if "model.bin" in names:
        return _CTRANSLATE2.get(ctranslate2_kind(folder / "model.bin") or "", "")
    if any(name.endswith(".gguf") for name in names):
        return "llama"
    if any(name.endswith(".onnx") for name in names):
        return "speech" if any("voice" in name for name in names) else ""
    return _by_architecture(_json(folder / "config.json")) if "config.json" in names else ""


def engine_of_file(path: Path) -> str:
    """The engine that opens one file; "" if that cannot be told."""
    if _head(path) == _GGUF:
        return "llama"
    return "classify" if path.suffix == ".pth" else ""


def _by_architecture(config: Any) -> str:
    if not isinstance(config, dict):
        return ""
    architecture = " ".join(map(str, config.get("architectures") or ()))
    if "ForImageClassification" in architecture:
        return "classify"
    if "ForSequenceClassification" in architecture:
        labels = config.get("id2label") or {}
        return "sentence_transformers" if len(labels) == 1 or config.get("num_labels") == 1 else "moderate"
    return ""


def ctranslate2_kind(path: Path) -> str | None:
    """What a CTranslate2 file says it is, None if it is none.

    Source: model_spec.py of CTranslate2: a version, then the name's length and the name with a zero byte.
    """
    try:
        with path.open("rb") as file:
            head = file.read(6)
            version, length = struct.unpack("<IH", head)
            if version > _MOST_SPEC_BYTES or not 0 < length <= _MOST_SPEC_BYTES:
                return None
            name = file.read(length).rstrip(b"\0")
    except (OSError, struct.error):
        return None
    text = name.decode("ascii", "replace")
    return text if text.isidentifier() else None


def _json(path: Path) -> Any:
    """A small JSON file's content; None for anything else."""
    try:
        if path.stat().st_size > _CONFIG_BYTES:
            return None
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
