"""What a model will take of memory, as far as its files tell.  Imports no inference library.

An estimate on the safe side, for the time before anybody has measured it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from hybrid_router.core.space import Space
from hybrid_router.engines.llama import gguf
from hybrid_router.engines.llama.fit import Fit, Machine, computing_bytes, draft_cell_bytes, fit
from hybrid_router.engines.llama.outline import Outline, outline
from hybrid_router.engines.settings import AnySettings, LlamaSettings, PainterSettings
from hybrid_router.engines.task import EngineFailed

_MIB = 2**20
_WEIGHTS = frozenset({".safetensors", ".bin", ".onnx", ".npz", ".pt", ".pth", ".model", ".gguf"})
_ALL_FREE = Machine(1 << 50)
# Of a process with the engine's libraries and no model, measured: resident, rounded up.
_LIBRARIES_BYTES: Mapping[str, int] = MappingProxyType(
    {
        "llama": 90 * _MIB,
        "whisper": 220 * _MIB,
        "sentence_transformers": 500 * _MIB,
        "speech": 200 * _MIB,
        "images": 700 * _MIB,
        "classify": 450 * _MIB,
        "translate": 220 * _MIB,
        "moderate": 500 * _MIB,
    }
)


def needed(settings: AnySettings, *, room: Space, gpus: bool) -> Space:
    """Estimate what a model takes once it is open.  Reads files; blocks.

    A model whose files cannot be read takes nothing: its engine will say why.

    Args:
        room: what models may take together.
        gpus: whether there are any.
    """
    try:
        if isinstance(settings, LlamaSettings):
            return _llama(settings, room, gpus=gpus)
        return _from_files(settings, gpus=gpus)
    except (EngineFailed, OSError):
        return Space()


def _llama(settings: LlamaSettings, room: Space, *, gpus: bool) -> Space:
    model = outline(settings.path, gguf.read(settings.path))
    drafting = settings.drafting.model_path
    draft = None if drafting is None else outline(drafting, gguf.read(drafting))
    beside_bytes = sum(_size_bytes(path) for path in _beside(settings))
    beside_bytes += 0 if draft is None else computing_bytes(draft)
    found = _fitted(settings, model, Machine(room.ram_bytes), (beside_bytes, draft))
    model_bytes = model.size_bytes + beside_bytes + found.cells_bytes + computing_bytes(model)
    model_bytes += model.state_bytes * found.parallel
    if draft is not None:
        model_bytes += draft_cell_bytes(draft) * min(found.context, draft.context) * found.parallel
    return _placed(settings, model_bytes, on_gpu=gpus and settings.offload.layers != 0)


def _fitted(
    settings: LlamaSettings, model: Outline, machine: Machine, beside: tuple[int, Outline | None]
) -> Fit:
    """As the engine will decide; if it will refuse, what it would take to be accepted."""
    beside_bytes, draft = beside
    kept = 0 if draft is None else draft_cell_bytes(draft)
    try:
        return fit(settings, model, machine, beside_bytes=beside_bytes, beside_cell_bytes=kept)
    except EngineFailed:
        return fit(settings, model, _ALL_FREE, beside_bytes=beside_bytes, beside_cell_bytes=kept)


def _beside(settings: LlamaSettings) -> Iterator[str]:
    """Files that are loaded beside the model."""
    yield from (adapter.path for adapter in settings.adapters)
    for path in (settings.projector_path, settings.drafting.model_path):
        if path is not None:
            yield path


def _from_files(settings: AnySettings, *, gpus: bool) -> Space:
    """As much as the weights are long; twice that where half precision is widened."""
    size_bytes = _size_bytes(settings.path)
    if isinstance(settings, PainterSettings) and not gpus:
        size_bytes *= 2
    device = getattr(settings, "device", "cpu")
    return _placed(settings, size_bytes, on_gpu=gpus and device != "cpu")


def _placed(settings: AnySettings, model_bytes: int, *, on_gpu: bool) -> Space:
    libraries_bytes = _LIBRARIES_BYTES[settings.engine]
    if on_gpu:
        return Space(libraries_bytes, model_bytes)
    return Space(libraries_bytes + model_bytes)


def _size_bytes(path: str) -> int:
    """Of a file, or of the weights in a folder; one format of several is loaded, the largest counts."""
    if not Path(path).is_dir():
        return Path(path).stat().st_size
    sizes: dict[str, int] = {}
    for folder, _, names in os.walk(path):
        for name in names:
            if (suffix := Path(name).suffix) in _WEIGHTS:
                sizes[suffix] = sizes.get(suffix, 0) + (Path(folder) / name).stat().st_size
    return max(sizes.values(), default=0)
