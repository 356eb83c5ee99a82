"""How each engine's models are opened.  Pure; read by both ends of the pipe.

The tag of a struct is its engine's name: that of `engine:` in router.yaml, and of its folder here.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from hybrid_router.core.backend import GENERATES
from hybrid_router.core.call import Feature, Operation
from hybrid_router.core.device import ComputeType, Device

_NOTHING: frozenset[Feature] = frozenset()
# Most chat models can; one that cannot refuses once it is loaded, and another step may try.
_CHAT = frozenset(
    {
        Feature.TOOLS,
        Feature.SCHEMA,
        Feature.GRAMMAR,
        Feature.LOGPROBS,
        Feature.INFILL,
        Feature.PREFILL,
    }
)


class AdapterFile(Struct, frozen=True, array_like=True):
    """A LoRA adapter beside a model: its name in calls, and its GGUF.

    `always`: the scale it has in calls that name no adapter; 0: it is used only where it is named.
    """

    name: str
    path: str
    always: float = 0.0


class Offload(Struct, frozen=True, kw_only=True, array_like=True):
    """What runs on GPUs.  `layers` None: as many as fit the free memory; -1: all.

    `split` is how layers are spread over several (`llama_split_mode`), `shares` their proportions.
    """

    layers: int | None = 0
    split: Literal["none", "layer", "row"] = "layer"
    main: int = 0
    shares: tuple[float, ...] = ()


class Keeping(Struct, frozen=True, kw_only=True, array_like=True):
    """What is kept of prompts that were computed, so that they need not be computed again.

    `ram_bytes` bounds what is kept beside the context, `folder` (None: no files) and `disk_bytes` what
    survives this process.  `everyone`: a principal may profit from another's prompts.
    """

    ram_bytes: int = 512 * 2**20
    folder: str | None = None
    disk_bytes: int = 0
    everyone: bool = False


class Drafting(Struct, frozen=True, kw_only=True, array_like=True):
    """Tokens guessed ahead, at most `most_tokens` a step: by looking them up in the prompt, or by a small
    model of the same vocabulary."""

    most_tokens: int = 0
    model_path: str | None = None


class Settings(Struct, frozen=True, kw_only=True, array_like=True):
    """What all engines are told.

    `path` is the model's file, or the folder of its files; `sha256` that file's, or of the list of them.
    `parallel` calls are worked on together; None: the engine decides when it is open.  `busy_wait` lets
    threads spin for each other.
    """

    path: str
    sha256: str = ""
    threads: int = 1
    parallel: int | None = 1
    busy_wait: bool = False

    @property
    def engine(self) -> str:
        """The name of the engine that opens it."""
        return str(self.__struct_config__.tag)

    @property
    def operations(self) -> frozenset[Operation]:
        """What the model can be asked."""
        raise NotImplementedError

    @property
    def hoped_for(self) -> frozenset[Feature]:
        """What a model that is not open yet is taken to be able to do."""
        return _NOTHING


class LlamaSettings(Settings, frozen=True, kw_only=True, array_like=True, tag="llama"):
    """A GGUF model, by llama.cpp.

    `context` is tokens of prompt and answer for one sequence; `parallel` None: from memory and context.
    `purpose`: what it is asked for; `moderate`: a guard model that writes a verdict.
    `projector_path`: the model that turns images and sound into its tokens.
    `key_type` and `value_type` are how the KV cache holds its numbers.
    """

    context: int | None
    prefill_chunk: int
    purpose: Literal["generate", "embed", "rerank", "moderate"] = "generate"
    offload: Offload = Offload()
    flash_attention: Literal["auto", "on", "off"] = "auto"
    key_type: str = "f16"
    value_type: str = "f16"
    keeping: Keeping = Keeping()
    drafting: Drafting = Drafting()
    adapters: tuple[AdapterFile, ...] = ()
    projector_path: str | None = None

    @property
    def operations(self) -> frozenset[Operation]:
        match self.purpose:
            case "embed":
                return frozenset({Operation.EMBED})
            case "rerank":
                return frozenset({Operation.RERANK})
            case "moderate":
                return frozenset({Operation.MODERATE})
            case _:
                return GENERATES

    @property
    def hoped_for(self) -> frozenset[Feature]:
        if self.purpose != "generate":
            return _NOTHING
        media = self.projector_path is not None
        more = {Feature.IMAGES: media, Feature.AUDIO: media, Feature.ADAPTERS: bool(self.adapters)}
        return _CHAT | {feature for feature, is_there in more.items() if is_there}


class WhisperSettings(Settings, frozen=True, kw_only=True, array_like=True, tag="whisper"):
    """A faster-whisper folder (CTranslate2).  `compute_type` is CTranslate2's; `auto`: int8 on a CPU.

    `longest_s`: longer recordings are refused before they are decoded.  `voice_only`: parts in which nobody
    speaks are passed over, unless a call says otherwise.
    """

    device: Device = "auto"
    compute_type: ComputeType = "auto"
    beam_size: int = 5
    voice_only: bool = True
    longest_s: float = 4 * 3600.0

    @property
    def operations(self) -> frozenset[Operation]:
        return frozenset({Operation.TRANSCRIBE})

    @property
    def hoped_for(self) -> frozenset[Feature]:
        return frozenset({Feature.SPEECH_TRANSLATION})


class EncoderSettings(Settings, frozen=True, kw_only=True, array_like=True, tag="sentence_transformers"):
    """A sentence-transformers folder: a bi-encoder that embeds, or a cross-encoder that ranks.

    `batch_tokens`: tokens, padding included, of one forward pass.  `query_prompt` and `document_prompt` stand
    before the texts of calls that say what they are; None: as the model's own files say.
    """

    purpose: Literal["embed", "rerank"] = "embed"
    device: Device = "auto"
    context: int | None = None
    batch_tokens: int = 8192
    query_prompt: str | None = None
    document_prompt: str | None = None

    @property
    def operations(self) -> frozenset[Operation]:
        return frozenset({Operation.EMBED if self.purpose == "embed" else Operation.RERANK})

    @property
    def hoped_for(self) -> frozenset[Feature]:
        return frozenset({Feature.PROMPTS}) if self.purpose == "embed" else _NOTHING


class VoiceSettings(Settings, frozen=True, kw_only=True, array_like=True, tag="speech"):
    """A folder with ONNX voices.  `voice`: that of calls whose own name is not one of the model's.

    `voices`: names that clients use → the model's own.
    """

    voice: str = ""
    voices: tuple[tuple[str, str], ...] = ()

    @property
    def operations(self) -> frozenset[Operation]:
        return frozenset({Operation.SPEAK})


class PainterSettings(Settings, frozen=True, kw_only=True, array_like=True, tag="images"):
    """A diffusers folder.  `most_pixels` of one picture; `steps`, `guidance`: of calls that name none."""

    device: Device = "auto"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    steps: int | None = None
    guidance: float | None = None
    most_pixels: int = 2048 * 2048
    most_steps: int = 150

    @property
    def operations(self) -> frozenset[Operation]:
        return frozenset({Operation.IMAGE})

    @property
    def hoped_for(self) -> frozenset[Feature]:
        return frozenset({Feature.IMAGE_INPUT, Feature.INPAINTING})


class ClassifierSettings(Settings, frozen=True, kw_only=True, array_like=True, tag="classify"):
    """An image classifier: a transformers folder, or an EfficientNet-Lite's weights."""

    device: Device = "auto"

    @property
    def operations(self) -> frozenset[Operation]:
        return frozenset({Operation.CLASSIFY})


class TranslatorSettings(Settings, frozen=True, kw_only=True, array_like=True, tag="translate"):
    """A CTranslate2 folder with its tokenizer: m2m100, NLLB or OPUS.

    `source` and `target`: the languages of a model that knows one pair.
    """

    device: Device = "auto"
    compute_type: ComputeType = "auto"
    beam_size: int = 4
    source: str | None = None
    target: str | None = None

    @property
    def operations(self) -> frozenset[Operation]:
        return frozenset({Operation.TRANSLATE})


class GuardSettings(Settings, frozen=True, kw_only=True, array_like=True, tag="moderate"):
    """A classifier of texts, or of images (transformers), whose labels are categories of harm.

    `threshold`: from this score on an input is of a category.
    """

    device: Device = "auto"
    threshold: float = 0.5

    @property
    def operations(self) -> frozenset[Operation]:
        return frozenset({Operation.MODERATE})

    @property
    def hoped_for(self) -> frozenset[Feature]:
        """Its files say what it reads, once it is open."""
        return frozenset({Feature.IMAGES})


AnySettings: TypeAlias = (
    LlamaSettings
    | WhisperSettings
    | EncoderSettings
    | VoiceSettings
    | PainterSettings
    | ClassifierSettings
    | TranslatorSettings
    | GuardSettings
)
