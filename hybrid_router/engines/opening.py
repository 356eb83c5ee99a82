"""The engine that serves a model: by what it is opened for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybrid_router.engines.settings import AnySettings, LlamaSettings

if TYPE_CHECKING:
    from hybrid_router.engines.task import Engine


def open_engine(settings: AnySettings) -> Engine:
    """Open the model.  An engine is imported when it is wanted: a child needs one, and none is small.

    Raises:
        EngineFailed: the model cannot be used; the text names file and reason.
    """
    if isinstance(settings, LlamaSettings):
        return _llama(settings)
    raise NotImplementedError(settings.engine)


def _llama(settings: LlamaSettings) -> Engine:
    if settings.purpose == "generate":
        from hybrid_router.engines.llama.engine import LlamaEngine  # noqa: PLC0415

        return LlamaEngine(settings)
    from hybrid_router.engines.llama.embedding import EmbeddingEngine  # noqa: PLC0415

    return EmbeddingEngine(settings)
