"""What fits this machine's memory: the estimate that decides about loading, asked beforehand."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from hybrid_router.core import space
from hybrid_router.core.space import UNLIMITED, Space
from hybrid_router.engines.llama import gguf
from hybrid_router.engines.llama.outline import outline
from hybrid_router.engines.needs import needed
from hybrid_router.engines.settings import (
    AnySettings,
    ClassifierSettings,
    EncoderSettings,
    GuardSettings,
    LlamaSettings,
    Offload,
    PainterSettings,
    TranslatorSettings,
    VoiceSettings,
    WhisperSettings,
)
from hybrid_router.engines.task import EngineFailed
from hybrid_router.models.entry import Entry
from hybrid_router.models.errors import ModelFileError
from hybrid_router.workers.memory import Machine

_OTHERS = (
    WhisperSettings,
    EncoderSettings,
    VoiceSettings,
    PainterSettings,
    ClassifierSettings,
    TranslatorSettings,
    GuardSettings,
)
_PREFILL_COUNT = 512


class Room(Struct, frozen=True, kw_only=True):
    """What there is in all, and what of it is free now.  `gpus`: whether there are any to count."""

    total: Space
    free: Space
    gpus: bool


def here() -> Room:
    """This machine's.  Looks for GPUs where `nvidia-ml-py` is installed."""
    machine = Machine()
    total = machine.total()
    return Room(total=total, free=machine.available(), gpus=total.vram_bytes != UNLIMITED.vram_bytes)


def shown(room: Room) -> str:
    """The room, in a line."""
    ram = f"memory {space.shown(room.total.ram_bytes)}, free {space.shown(room.free.ram_bytes)}"
    if not room.gpus:
        counted = importlib.util.find_spec("pynvml") is not None
        remedy = "" if counted else " (install nvidia-ml-py to have NVIDIA's counted)"
        return f"{ram}; no GPU is counted{remedy}"
    return f"{ram}; GPUs {space.shown(room.total.vram_bytes)}, free {space.shown(room.free.vram_bytes)}"


def judge(room: Room, entry: Entry, path: Path, contexts: tuple[int, ...]) -> Iterator[str]:
    """What a model takes without context and whether that fits, then whether each context does.

    Raises:
        ModelFileError: its header cannot be read.
    """
    if entry.engine != "llama":
        taken = needed(_settings(entry.engine, path), room=room.total, gpus=room.gpus)
        yield _size(taken)
        yield _verdict(taken, room)
        return
    try:
        trained = outline(str(path), gguf.read(path)).context
    except EngineFailed as e:
        raise ModelFileError(f"{path.name} cannot be judged", detail=str(e)) from e
    least = _llama(path, 1, room)
    yield _size(least)
    yield _verdict(least, room)
    for context in contexts:
        yield _verdict(_llama(path, context, room), room) if context <= trained else "-"


def _llama(path: Path, context: int, room: Room) -> Space:
    settings = LlamaSettings(
        path=str(path),
        context=context,
        prefill_chunk=_PREFILL_COUNT,
        offload=Offload(layers=-1 if room.gpus else 0),
    )
    # Whatever it needs: whether there is as much is judged here.
    return needed(settings, room=UNLIMITED, gpus=room.gpus)


def _settings(engine: str, path: Path) -> AnySettings:
    kind = next(each for each in _OTHERS if each.__struct_config__.tag == engine)
    return kind(path=str(path))


def _verdict(taken: Space, room: Room) -> str:
    if taken.fits(room.free):
        return "yes"
    return "if alone" if taken.fits(room.total) else "no"


def _size(taken: Space) -> str:
    on_gpus = f" + {space.shown(taken.vram_bytes)} on GPUs" if taken.vram_bytes else ""
    return f"{space.shown(taken.ram_bytes)}{on_gpus}"
