"""A request for every model of the catalogue, and what its answer must look like."""

from __future__ import annotations

import base64
import io
from typing import Any

import av
from PIL import Image

from hybrid_router.catalogue.families import Family, family
from hybrid_router.catalogue.workers_ai import Catalogue, Model, load
from hybrid_router.emulator.example import value_for
from hybrid_router.emulator.stand_ins import png, wav

CATALOGUE: Catalogue = load()
SPOKEN = wav.sound("good morning to you", 1.5)
SEEN = png.picture("a cat", 32, 32)
GIVEN_BYTES = {
    Family.SOUND_BYTES: (SPOKEN, "audio/wav"),
    Family.SOUND_NOVA: (SPOKEN, "audio/wav"),
    Family.IMAGE_LABELS: (SEEN, "image/png"),
    Family.IMAGE_BOXES: (SEEN, "image/png"),
}
# Where the wire is known to differ from the schema that is published, and why.
EXCEPTIONS = {
    "@cf/deepgram/nova-3": "its input schema is the worker binding's; REST takes the recording itself",
    "@cf/deepgram/flux": "answers through a WebSocket alone",
    "@cf/moondream/moondream3.1-9B-A2B": "no schema is published",
    "classic tool calls": "the schema wants both forms of a call in one; models write one of them",
    "gpt-oss with a prompt": "answers text_completion, which its schema leaves out",
}
# What the schemas do not require, and every answer has all the same.
HOLDS: dict[Family, tuple[str, ...]] = {
    Family.CLASSIC: ("response", "usage"),
    Family.CHAT: ("choices", "usage"),
    Family.EITHER: ("choices", "usage"),
    Family.BY_INPUT: ("usage", "id"),
    Family.GUARD: ("response",),
    Family.DECISION: ("model", "answers", "usage"),
    Family.VECTORS: ("shape", "data"),
    Family.VECTORS_M3: ("shape",),
    Family.VECTORS_QWEN: ("shape", "data"),
    Family.RERANK: ("response",),
    Family.TRANSLATION: ("translated_text",),
    Family.TRANSLATIONS: ("translations",),
    Family.SUMMARY: ("summary",),
    Family.SOUND_BYTES: ("text", "word_count", "words", "vtt"),
    Family.SOUND_BASE64: ("text", "word_count", "segments", "transcription_info", "vtt"),
    Family.SOUND_NOVA: ("results",),
    Family.TURN: ("is_complete", "probability"),
    Family.DESCRIPTION: ("description",),
    Family.PICTURE_BASE64: ("image",),
    Family.PICTURE_FORM: ("image",),
    Family.SPEECH_BASE64: ("audio",),
}
ROWS: dict[Family, set[str]] = {
    Family.TEXT_LABELS: {"label", "score"},
    Family.IMAGE_LABELS: {"label", "score"},
    Family.IMAGE_BOXES: {"label", "score", "box"},
}
BARE = {Family.PICTURE_PNG: "PNG", Family.PICTURE_JPEG: "JPEG"}


def models_of(known: Family) -> list[Model]:
    """The models of a family that can be called."""
    return [model for model in CATALOGUE.models if family(model) is known]


def json_body(model: Model) -> dict[str, Any]:
    """A generated body that the model's schema accepts, with real files where it wants some."""
    schema = CATALOGUE.input_schema(model)
    known = family(model)
    made = value_for(schema) if schema is not None else {"prompt": "what is this?"}
    if schema is not None and not isinstance(made, dict):  # its first form is bytes: the last is an object
        made = value_for((schema.get("anyOf") or schema["oneOf"])[-1])
    body: dict[str, Any] = made
    if known is Family.SOUND_BYTES:
        body["audio"] = list(SPOKEN)
    elif known is Family.VECTORS_QWEN:  # nothing is required, and queries exclude documents
        body = {"queries": ["one", "two"], "instruction": "find"}
    elif known in (Family.SOUND_BASE64, Family.TURN):
        body["audio"] = base64.b64encode(SPOKEN).decode()
    elif known in (Family.IMAGE_LABELS, Family.IMAGE_BOXES, Family.DESCRIPTION):
        body["image"] = list(SEEN)
    return body


def picture_format(content: bytes) -> str:
    """Which format a picture is in; its pixels are read."""
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        return str(picture.format)


def sound_s(content: bytes) -> float:
    """How long a sound file lasts, decoded."""
    with av.open(io.BytesIO(content), "r") as container:
        rate = container.streams.audio[0].rate
        return float(sum(frame.samples for frame in container.decode(audio=0)) / rate)
