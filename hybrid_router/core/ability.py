"""What calls need of a model, in words for people."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

from hybrid_router.core.call import Feature, Operation


class Ability(Struct, frozen=True):
    """Something that a model can do.

    Attributes:
        does: what that is, behind "can".
        without: what a call leaves out to do without; None: it would be another call.
    """

    does: str
    without: str | None


DOES: Mapping[Operation, str] = MappingProxyType({
    Operation.CHAT: "chat",
    Operation.COMPLETE: "complete text",
    Operation.EMBED: "embed",
    Operation.RERANK: "rerank",
    Operation.TRANSCRIBE: "transcribe",
    Operation.SPEAK: "speak",
    Operation.IMAGE: "make pictures",
    Operation.CLASSIFY: "classify",
    Operation.TRANSLATE: "translate",
    Operation.MODERATE: "moderate",
})  # fmt: skip

ABILITIES: Mapping[Feature, Ability] = MappingProxyType({
    Feature.TOOLS: Ability("call tools", "tools"),
    Feature.IMAGES: Ability("see images", "images"),
    Feature.AUDIO: Ability("hear audio", "audio"),
    Feature.SCHEMA: Ability("answer in a given form", "response_format"),
    Feature.LOGPROBS: Ability("tell log probabilities", "logprobs"),
    Feature.GRAMMAR: Ability("keep to a grammar", "response_format"),
    Feature.INFILL: Ability("write what comes before a suffix", "suffix"),
    Feature.ADAPTERS: Ability("use adapters", "adapters"),
    Feature.PREFILL: Ability("go on with an answer that has begun", "the assistant's last message"),
    Feature.SPEECH_TRANSLATION: Ability("translate speech", None),
    Feature.IMAGE_INPUT: Ability("change pictures", None),
    Feature.INPAINTING: Ability("change a part of a picture", "mask"),
    Feature.PROMPTS: Ability("use prompts by name", "prompt_name"),
})  # fmt: skip
