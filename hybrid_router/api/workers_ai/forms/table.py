"""Family → its wire form.  A family that is not here is answered by nobody."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hybrid_router.api.workers_ai.form import Form
from hybrid_router.api.workers_ai.forms.chat import Chat
from hybrid_router.api.workers_ai.forms.labels import PictureBoxes, PictureLabels, TextLabels
from hybrid_router.api.workers_ai.forms.pictures import PictureBase64, PictureBytes, PictureForm
from hybrid_router.api.workers_ai.forms.sound import SoundBase64, SoundBytes, SoundNova, Turn
from hybrid_router.api.workers_ai.forms.speech import SpeechBase64, SpeechBytes
from hybrid_router.api.workers_ai.forms.texts import Description, Summary, Translated, Translations
from hybrid_router.api.workers_ai.forms.vectors import Ranking, Vectors, VectorsM3, VectorsQwen
from hybrid_router.catalogue.families import Family

FORMS: Mapping[Family, Form] = MappingProxyType({
    Family.CLASSIC: Chat(Family.CLASSIC),
    Family.CHAT: Chat(Family.CHAT),
    Family.EITHER: Chat(Family.EITHER),
    Family.BY_INPUT: Chat(Family.BY_INPUT),
    Family.GUARD: Chat(Family.GUARD),
    Family.VECTORS: Vectors(),
    Family.VECTORS_M3: VectorsM3(),
    Family.VECTORS_QWEN: VectorsQwen(),
    Family.RERANK: Ranking(),
    Family.TEXT_LABELS: TextLabels(),
    Family.TRANSLATION: Translated(),
    Family.TRANSLATIONS: Translations(),
    Family.SUMMARY: Summary(),
    Family.IMAGE_LABELS: PictureLabels(),
    Family.IMAGE_BOXES: PictureBoxes(),
    Family.DESCRIPTION: Description(),
    Family.SOUND_BYTES: SoundBytes(),
    Family.SOUND_BASE64: SoundBase64(),
    Family.SOUND_NOVA: SoundNova(),
    Family.TURN: Turn(),
    Family.PICTURE_PNG: PictureBytes("png"),
    Family.PICTURE_JPEG: PictureBytes("jpeg"),
    Family.PICTURE_BASE64: PictureBase64(),
    Family.PICTURE_FORM: PictureForm(),
    Family.SPEECH_BYTES: SpeechBytes(),
    Family.SPEECH_BASE64: SpeechBase64(),
})  # fmt: skip
_UNKNOWN_CHAT: Form = Chat(Family.CHAT, ends=True)


def form_of(family: Family, *, is_known: bool) -> Form | None:
    """The form of a model, by the catalogue or, as far as its input tells, without; None: nobody answers."""
    return _UNKNOWN_CHAT if family is Family.CHAT and not is_known else FORMS.get(family)
