"""What is known of a model and of this machine before the model is opened."""

from __future__ import annotations

from hybrid_router.engines.llama import gguf, machine
from hybrid_router.engines.llama.fit import Fit, computing_bytes, draft_cell_bytes, fit
from hybrid_router.engines.llama.outline import Outline, outline
from hybrid_router.engines.settings import LlamaSettings


def fitted(settings: LlamaSettings) -> tuple[Outline, Fit]:
    """Check every file of a model, and decide what its settings leave open.

    Raises:
        EngineFailed: a file is no sound GGUF, or does not fit; `path: reason`.
    """
    model = _outline(settings.path)
    beside_bytes = sum(gguf.read(path).size_bytes for path in _beside(settings))
    there = machine.look(with_devices=settings.offload.layers != 0)
    beside_cell_bytes = 0
    if settings.drafting.model_path is not None:
        draft = _outline(settings.drafting.model_path)
        beside_bytes, beside_cell_bytes = beside_bytes + computing_bytes(draft), draft_cell_bytes(draft)
    found = fit(settings, model, there, beside_bytes=beside_bytes, beside_cell_bytes=beside_cell_bytes)
    return model, found


def checked(path: str, *, vocabulary_only: bool = False) -> None:
    """Make sure that a file is a GGUF that llama.cpp can be given.

    Raises:
        EngineFailed: it is not; `path: reason`.
    """
    found = gguf.read(path)
    if not vocabulary_only:
        outline(path, found)


def _outline(path: str) -> Outline:
    return outline(path, gguf.read(path))


def _beside(settings: LlamaSettings) -> list[str]:
    """Files that are loaded beside the model."""
    others = [settings.drafting.model_path, settings.projector_path]
    return [*(path for path in others if path), *(adapter.path for adapter in settings.adapters)]
