"""Which task does what, for which families of models.

What is written as text, chats and completions of `TEXT`, is not here: see `backends.workers_ai.encode`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from hybrid_router.backends.workers_ai.tasks import (
    description,
    labels,
    relevance,
    summary,
    translation,
    vectors,
    verdicts,
)
from hybrid_router.backends.workers_ai.tasks.pictures import Paint
from hybrid_router.backends.workers_ai.tasks.pieces import Pieces
from hybrid_router.backends.workers_ai.tasks.speech import Speak
from hybrid_router.backends.workers_ai.tasks.task import Task
from hybrid_router.backends.workers_ai.tasks.transcription import Transcribe
from hybrid_router.backends.workers_ai.tasks.translation import Translator
from hybrid_router.catalogue.families import Family
from hybrid_router.core.backend import GENERATES
from hybrid_router.core.call import Feature, Operation

TEXT = frozenset({Family.CLASSIC, Family.CHAT, Family.EITHER, Family.BY_INPUT, Family.GUARD, Family.DECISION})
_VECTORS = Pieces(vectors.write, check=vectors.check)
_RELEVANCE = Pieces(relevance.write)
_IMAGE_LABELS = Pieces(labels.of_image, able=frozenset({Feature.IMAGES}))
TASKS: Mapping[tuple[Family, Operation], Task] = MappingProxyType({
    (Family.VECTORS, Operation.EMBED): _VECTORS,
    (Family.VECTORS_M3, Operation.EMBED): _VECTORS,
    (Family.VECTORS_QWEN, Operation.EMBED): _VECTORS,
    (Family.RERANK, Operation.RERANK): _RELEVANCE,
    (Family.VECTORS_M3, Operation.RERANK): _RELEVANCE,
    (Family.IMAGE_LABELS, Operation.CLASSIFY): _IMAGE_LABELS,
    (Family.IMAGE_BOXES, Operation.CLASSIFY): _IMAGE_LABELS,
    (Family.TEXT_LABELS, Operation.CLASSIFY): Pieces(labels.of_text),
    (Family.DESCRIPTION, Operation.CHAT): Pieces(description.write, able=frozenset({Feature.IMAGES})),
    (Family.SUMMARY, Operation.CHAT): Pieces(summary.write),
    (Family.TRANSLATION, Operation.TRANSLATE): Translator(
        translation.M2M100.__contains__, translation.one_by_one
    ),
    (Family.TRANSLATIONS, Operation.TRANSLATE): Translator(
        translation.ENGLISH.__eq__, translation.some_at_once
    ),
    (Family.GUARD, Operation.MODERATE): Pieces(verdicts.write),
    (Family.SOUND_BYTES, Operation.TRANSCRIBE): Transcribe(),
    (Family.SOUND_BASE64, Operation.TRANSCRIBE): Transcribe(),
    (Family.SOUND_NOVA, Operation.TRANSCRIBE): Transcribe(),
    (Family.SPEECH_BYTES, Operation.SPEAK): Speak(),
    (Family.SPEECH_BASE64, Operation.SPEAK): Speak(),
    (Family.PICTURE_PNG, Operation.IMAGE): Paint(),
    (Family.PICTURE_JPEG, Operation.IMAGE): Paint(),
    (Family.PICTURE_BASE64, Operation.IMAGE): Paint(),
    (Family.PICTURE_FORM, Operation.IMAGE): Paint(),
})  # fmt: skip


@cache
def operations(family: Family) -> frozenset[Operation]:
    """What models of a family can be asked."""
    text = GENERATES if family in TEXT else frozenset[Operation]()
    return text | {operation for known, operation in TASKS if known is family}
