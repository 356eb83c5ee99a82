"""A diffusers folder: what it says it is, before a library opens it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from hybrid_router.engines.task import EngineFailed

_INDEX = "model_index.json"
_LIBRARIES = frozenset({"diffusers", "transformers"})
_MOST_INDEX_BYTES = 1 << 20
_PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5"})
_HALF = ".fp16.safetensors"


class Index(Struct, frozen=True):
    """What `model_index.json` says.

    Attributes:
        pipeline: the class, such as `StableDiffusionPipeline`.
        has_checker: one of the parts looks at pictures once they are made.
        variant: weights are there in this form alone; None: the plain one.
    """

    pipeline: str
    has_checker: bool
    variant: str | None = None


def read(path: Path) -> Index:
    """Look at a folder.

    Raises:
        EngineFailed: it is none, it needs code of its own, or a part has weights that are not safetensors.
    """
    index = _index(path)
    pipeline = index.get("_class_name")
    if not isinstance(pipeline, str):
        raise EngineFailed(f"{path / _INDEX} names no pipeline of diffusers")
    parts = {name: part for name, part in index.items() if isinstance(part, list)}
    for name, part in parts.items():
        _check_part(path, name, part)
    return Index(pipeline, _is_there(parts.get("safety_checker")), _variant(path))


def _index(path: Path) -> dict[str, Any]:
    try:
        with (path / _INDEX).open("rb") as file:
            return msgspec.json.decode(file.read(_MOST_INDEX_BYTES), type=dict[str, Any])
    except (FileNotFoundError, NotADirectoryError):
        raise EngineFailed(f"{path} is no diffusers folder: it has no {_INDEX}") from None
    except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise EngineFailed(f"{path / _INDEX} cannot be read: {error}") from None


def _is_there(part: object) -> bool:
    return isinstance(part, list) and any(part)


def _check_part(path: Path, name: str, part: list[Any]) -> None:
    """A part is of a library that is known, and its weights are numbers, not programs."""
    if not _is_there(part):
        return
    if part[0] not in _LIBRARIES:
        raise EngineFailed(f"{path / _INDEX}: {name} is of {part[0]!r}, whose code is not run here")
    folder = path / name
    files = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    pickles = sorted(file for file in files if Path(file).suffix in _PICKLES)
    if pickles and not any(file.endswith(".safetensors") for file in files):
        raise EngineFailed(
            f"{folder / pickles[0]} may run code when it is opened; convert the weights to safetensors"
        )


def _variant(path: Path) -> str | None:
    """`fp16` where the largest parts are there in that form alone."""
    weights = [file.name for part in ("unet", "transformer") for file in (path / part).glob("*.safetensors")]
    return "fp16" if weights and all(name.endswith(_HALF) for name in weights) else None
