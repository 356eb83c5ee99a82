"""Which models of Workers AI are asked and answer alike: the one place that knows a model's wire form.

Task and result alone do not tell: a guard is listed as text generation, a reranker as text classification.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from hybrid_router.catalogue.workers_ai import TEXT_GENERATION, Model


class Family(StrEnum):
    """A wire form of `/ai/run`."""

    CLASSIC = "classic"  # messages or prompt → {"response"}
    CHAT = "chat"  # OpenAI's chat body → chat.completion
    EITHER = "either"  # messages → chat.completion, prompt → text_completion
    BY_INPUT = "by_input"  # gpt-oss: messages, prompt or input → the object that belongs to it
    GUARD = "guard"  # messages → {"response": "safe" | "unsafe\nS1"}
    DECISION = "decision"  # clef: state and questions → answers
    VECTORS = "vectors"  # {"text"} → {"shape", "data"}; bge with "pooling"
    VECTORS_M3 = "vectors_m3"  # the same, or contexts with a query → scores
    VECTORS_QWEN = "vectors_qwen"  # the same, or queries and documents
    RERANK = "rerank"  # query and contexts → [{"id", "score"}]
    TEXT_LABELS = "text_labels"  # {"text"} → [{"label", "score"}]
    TRANSLATION = "translation"  # m2m100: text, target_lang → {"translated_text"}
    TRANSLATIONS = "translations"  # indictrans2: texts, target_language → {"translations"}
    SUMMARY = "summary"  # {"input_text"} → {"summary"}
    SOUND_BYTES = "sound_bytes"  # whisper: raw bytes or a list of integers → text, words, vtt
    SOUND_BASE64 = "sound_base64"  # whisper-large-v3-turbo: JSON → the same, and segments
    SOUND_NOVA = "sound_nova"  # raw bytes, options in the query → results.channels
    SOUND_LIVE = "sound_live"  # through a WebSocket alone
    TURN = "turn"  # smart-turn: base64 → is_complete, probability
    IMAGE_LABELS = "image_labels"  # raw bytes or integers → [{"label", "score"}]
    IMAGE_BOXES = "image_boxes"  # the same → with boxes
    DESCRIPTION = "description"  # an image and a prompt → {"description"}
    PICTURE_PNG = "picture_png"  # prompt → PNG, no envelope
    PICTURE_JPEG = "picture_jpeg"  # prompt → JPEG, no envelope
    PICTURE_BASE64 = "picture_base64"  # prompt → {"image"}
    PICTURE_FORM = "picture_form"  # flux-2: multipart → {"image"}
    SPEECH_BYTES = "speech_bytes"  # aura: text → audio, no envelope
    SPEECH_BASE64 = "speech_base64"  # melotts: prompt → {"audio"}


_BY_MODEL: Mapping[str, Family] = MappingProxyType({
    "@cf/meta/llama-guard-3-8b": Family.GUARD,
    "@cf/baai/bge-m3": Family.VECTORS_M3,
    "@cf/qwen/qwen3-embedding-0.6b": Family.VECTORS_QWEN,
    "@cf/openai/whisper-large-v3-turbo": Family.SOUND_BASE64,
    "@cf/deepgram/nova-3": Family.SOUND_NOVA,
    "@cf/deepgram/flux": Family.SOUND_LIVE,
    "@cf/bytedance/stable-diffusion-xl-lightning": Family.PICTURE_JPEG,
    "@cf/leonardo/phoenix-1.0": Family.PICTURE_JPEG,
    "@cf/black-forest-labs/flux-2-dev": Family.PICTURE_FORM,
    "@cf/black-forest-labs/flux-2-klein-4b": Family.PICTURE_FORM,
    "@cf/black-forest-labs/flux-2-klein-9b": Family.PICTURE_FORM,
    "@cf/myshell-ai/melotts": Family.SPEECH_BASE64,
})  # fmt: skip
_TEXT: Mapping[str, Family] = MappingProxyType({
    "response": Family.CLASSIC,
    "chat.completion": Family.CHAT,
    "chat.completion (messages) or text_completion (prompt)": Family.EITHER,
    "answers": Family.DECISION,
})  # fmt: skip
_BY_TASK: Mapping[tuple[str, str], Family] = MappingProxyType({
    ("Text Embeddings", "data"): Family.VECTORS,
    ("Text Classification", "response scores"): Family.RERANK,
    ("Text Classification", "list"): Family.TEXT_LABELS,
    ("Translation", "translated_text"): Family.TRANSLATION,
    ("Translation", "translations"): Family.TRANSLATIONS,
    ("Summarization", "summary"): Family.SUMMARY,
    ("Automatic Speech Recognition", "text"): Family.SOUND_BYTES,
    ("Dumb Pipe", "is_complete/probability"): Family.TURN,
    ("Image Classification", "list"): Family.IMAGE_LABELS,
    ("Object Detection", "list"): Family.IMAGE_BOXES,
    ("Image-to-Text", "description"): Family.DESCRIPTION,
    ("Text-to-Image", "binary image"): Family.PICTURE_PNG,
    ("Text-to-Image", "base64 image"): Family.PICTURE_BASE64,
    ("Text-to-Speech", "audio"): Family.SPEECH_BYTES,
})  # fmt: skip


def family(model: Model) -> Family:
    """How `model` is asked; of one that the catalogue does not place, as most text models are."""
    if (own := _BY_MODEL.get(model.id)) is not None:
        return own
    if model.task == TEXT_GENERATION:
        return _TEXT.get(model.native_result, Family.BY_INPUT)
    return _BY_TASK.get((model.task, model.native_result), Family.CHAT)
