"""Opening a faster-whisper folder."""

from __future__ import annotations

from pathlib import Path

import ctranslate2

from hybrid_router.engines.settings import WhisperSettings
from hybrid_router.engines.task import EngineFailed
from hybrid_router.engines.whisper.model import Model

_FILES = ("model.bin", "config.json", "tokenizer.json")


def opened_model(settings: WhisperSettings) -> Model:
    """The model, in memory.

    Raises:
        EngineFailed: a file is missing or not what it should be, or the device cannot be used.
    """
    path = Path(settings.path)
    folder = path.parent if path.is_file() else path
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        # Without its own tokenizer the library would look for one on the network.
        raise EngineFailed(
            f"{folder}: {', '.join(missing)} is missing; a faster-whisper folder (CTranslate2) has "
            f"{', '.join(_FILES)}"
        )
    device = _device(settings)
    try:
        return Model(
            str(folder),
            device=device,
            compute_type=_compute_type(settings.compute_type, device),
            cpu_threads=settings.threads,
            local_files_only=True,
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise EngineFailed(f"{folder} cannot be opened: {error}") from error


def _device(settings: WhisperSettings) -> str:
    count = 0 if settings.device == "cpu" else ctranslate2.get_cuda_device_count()
    if settings.device == "cuda" and not count:
        raise EngineFailed("device: cuda: there is no usable GPU; set device: auto or cpu")
    return "cuda" if count else "cpu"


def _compute_type(chosen: str, device: str) -> str:
    if chosen != "auto":
        return chosen
    return "float16" if device == "cuda" else "int8"
