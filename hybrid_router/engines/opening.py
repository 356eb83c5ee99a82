"""The engine that serves a model: by what it is opened for."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from hybrid_router.engines.settings import (
    AnySettings,
    ClassifierSettings,
    EncoderSettings,
    GuardSettings,
    LlamaSettings,
    PainterSettings,
    TranslatorSettings,
    VoiceSettings,
    WhisperSettings,
)

if TYPE_CHECKING:
    from hybrid_router.engines.task import Engine


@functools.singledispatch
def open_engine(settings: AnySettings) -> Engine:
    """Open the model.  An engine is imported when it is wanted: a child needs one, and none is small.

    Raises:
        EngineFailed: the model cannot be used; the text names file and reason.
    """
    raise NotImplementedError(settings.engine)


@open_engine.register(LlamaSettings)
def _(settings: LlamaSettings) -> Engine:
    if settings.purpose == "generate":
        from hybrid_router.engines.llama.engine import LlamaEngine  # noqa: PLC0415

        return LlamaEngine(settings)
    if settings.purpose == "moderate":
        from hybrid_router.engines.moderate.guard_model import GuardModel  # noqa: PLC0415

        return GuardModel(settings)
    from hybrid_router.engines.llama.embedding import EmbeddingEngine  # noqa: PLC0415

    return EmbeddingEngine(settings)


@open_engine.register(ClassifierSettings)
def _(settings: ClassifierSettings) -> Engine:
    from hybrid_router.engines.classify.engine import Classifier  # noqa: PLC0415
    from hybrid_router.engines.turns import Turns  # noqa: PLC0415

    return Turns(Classifier(settings))


@open_engine.register(TranslatorSettings)
def _(settings: TranslatorSettings) -> Engine:
    from hybrid_router.engines.translate.engine import Translator  # noqa: PLC0415
    from hybrid_router.engines.turns import Turns  # noqa: PLC0415

    return Turns(Translator(settings))


@open_engine.register(GuardSettings)
def _(settings: GuardSettings) -> Engine:
    from hybrid_router.engines.moderate.engine import Guard  # noqa: PLC0415
    from hybrid_router.engines.turns import Turns  # noqa: PLC0415

    return Turns(Guard(settings))


@open_engine.register(PainterSettings)
def _(settings: PainterSettings) -> Engine:
    from hybrid_router.engines.images.painter import Painter  # noqa: PLC0415
    from hybrid_router.engines.turns import Turns  # noqa: PLC0415

    return Turns(Painter(settings))


@open_engine.register(EncoderSettings)
def _(settings: EncoderSettings) -> Engine:
    from hybrid_router.engines.encoders.engine import EncoderEngine  # noqa: PLC0415
    from hybrid_router.engines.encoders.model import EncoderModel  # noqa: PLC0415

    return EncoderEngine(settings, EncoderModel(settings))


@open_engine.register(WhisperSettings)
def _(settings: WhisperSettings) -> Engine:
    from hybrid_router.engines.turns import Turns  # noqa: PLC0415
    from hybrid_router.engines.whisper.craft import Whisper  # noqa: PLC0415

    return Turns(Whisper(settings))


@open_engine.register(VoiceSettings)
def _(settings: VoiceSettings) -> Engine:
    from hybrid_router.engines.speech.engine import Speaker  # noqa: PLC0415
    from hybrid_router.engines.turns import Turns  # noqa: PLC0415

    return Turns(Speaker(settings))
