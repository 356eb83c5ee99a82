"""The keys of a local model in router.yaml, for each engine.  See `config.schema`."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Struct, field

from hybrid_router.config.kinds import Duration, Name, Share, SizeBytes
from hybrid_router.config.marks import Bounds, Doc, NonEmpty, Pattern, Short
from hybrid_router.core.device import ComputeType, Device


class PrefixCache(Struct, frozen=True, kw_only=True):
    """What is kept of prompts that were computed."""

    ram: Annotated[Literal["off"] | SizeBytes, Doc("Memory for what the KV cache has no more room for.")] = (
        512 * 2**20
    )
    disk: Annotated[
        Literal["off"] | SizeBytes,
        Doc(
            "Files of all models in `prefixes` of the state folder, for after a restart; "
            "never of `local_only` calls."
        ),
    ] = "off"
    share_prefix: Annotated[
        Literal["principal", "everyone"],
        Doc(
            "Whose computed prompts a call may use. everyone: how soon answers begin tells what others asked."
        ),
    ] = "principal"


class Drafting(Struct, frozen=True, kw_only=True):
    """Guessing tokens ahead. The answer stays the same; what was guessed right comes sooner."""

    tokens: Annotated[
        int, Bounds(at_least=0, at_most=64), Doc("So many at most in a step; 0: none. 8 suits code edits.")
    ] = 0
    weights: Annotated[
        Name | None,
        Doc("Entry of models/manifest.yaml: a small model of the same vocabulary. Default: look-up alone."),
    ] = None


class Adapter(Struct, frozen=True, kw_only=True):
    """A LoRA adapter."""

    weights: Annotated[Name, Doc("Entry of models/manifest.yaml: a LoRA for this model, as GGUF.")]
    scale: Annotated[
        float, Bounds(at_least=0, at_most=16), Doc("Strength in calls that name no adapter; 0: none.")
    ] = 0.0


CellType: TypeAlias = Literal["f16", "bf16", "f32", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]


_LANGUAGE = Pattern(r"[a-z]{2,3}", "a language's code, as in de")


class ModelBase(Struct, frozen=True, kw_only=True, tag_field="engine"):
    """What models of every engine have."""

    weights: Annotated[Name | None, Doc("Entry of models/manifest.yaml. Default: this model's own name.")] = (
        None
    )
    threads: Annotated[
        int | None, Bounds(at_least=1), Doc("CPU threads. Default: the cores this process may use.")
    ] = None
    queue: Annotated[
        int, Bounds(at_least=0), Doc("Calls that may wait for a place; more go to the next step.")
    ] = 64
    preload: Annotated[bool, Doc("Load at start instead of at the first call.")] = True
    pinned: Annotated[bool, Doc("Once loaded, it is not evicted to make room, nor for being idle.")] = False
    idle: Annotated[
        Duration | None, Doc("Evicted once it had no call for so long. Default: only to make room.")
    ] = None
    memory: Annotated[
        SizeBytes | None, Doc("What it takes, if the estimate is wrong. Default: from its files.")
    ] = None

    @property
    def engine(self) -> str:
        """The name of the engine that runs it."""
        return str(self.__struct_config__.tag)


class LlamaModel(ModelBase, frozen=True, kw_only=True, tag="llama"):
    """A GGUF: text, embeddings, relevance, verdicts. The engine where none is written."""

    context: Annotated[
        int | None,
        Bounds(at_least=64),
        Doc("Tokens of prompt and answer a call may use. Default: the model's own, at most 4096."),
    ] = None
    parallel: Annotated[
        Literal["auto"] | int,
        Bounds(at_least=1, at_most=64),
        Doc("Calls decoded together. auto: twice the threads, at most 8, and what free memory allows."),
    ] = "auto"
    purpose: Annotated[
        Literal["generate", "embed", "rerank", "moderate"],
        Doc("What it is asked for: text, embeddings, relevance, or verdicts (Llama Guard)."),
    ] = "generate"
    busy_wait: Annotated[
        bool,
        Doc("Threads spin long for each other: little faster alone, far slower beside a busy program."),
    ] = False
    prefill_chunk: Annotated[
        int,
        Bounds(at_least=16, at_most=4096),
        Doc("Prompt tokens computed between two tokens of running calls."),
    ] = 256
    gpu_layers: Annotated[
        Literal["auto"] | int,
        Bounds(at_least=-1),
        Doc("Layers on GPUs; -1: all. auto: what fits their free memory, none without a GPU."),
    ] = "auto"
    split_mode: Annotated[
        Literal["none", "layer", "row"],
        Doc("Over several GPUs: `main_gpu` alone, whole layers (default), or the rows of each layer."),
    ] = "layer"
    main_gpu: Annotated[
        int, Bounds(at_least=0, at_most=15), Doc("The GPU of `none`, and of what `row` does not split.")
    ] = 0
    tensor_split: Annotated[
        tuple[Annotated[float, Bounds(at_least=0)], ...],
        Doc("Each GPU's share of the layers, as in [3, 1]. Default: by free memory."),
    ] = ()
    flash_attention: Annotated[
        Literal["auto", "on", "off"], Doc("Attention in less memory; auto: where the device can.")
    ] = "auto"
    cache_type_k: Annotated[
        CellType, Doc("How the KV cache holds keys: q8_0 halves it, at a small loss of quality.")
    ] = "f16"
    cache_type_v: Annotated[
        CellType, Doc("How it holds values; other types than f16, bf16 and f32 need flash attention.")
    ] = "f16"
    prefix_cache: Annotated[PrefixCache, Doc("What is kept of prompts that were computed.")] = PrefixCache()
    drafting: Annotated[Drafting, Doc("Guessing tokens ahead.")] = Drafting()
    adapters: Annotated[
        dict[Name, Annotated[Adapter, Short("weights")]],
        Doc("LoRA adapters by the names that aliases and calls use."),
    ] = field(default_factory=dict)
    projector: Annotated[
        Name | None,
        Doc("Entry of models/manifest.yaml: what turns images and sound into this model's tokens (mmproj)."),
    ] = None


class WhisperModel(ModelBase, frozen=True, kw_only=True, tag="whisper"):
    """Transcription, by faster-whisper."""

    device: Annotated[Device, Doc("auto: a GPU that CTranslate2 can use, else the CPU.")] = "auto"
    compute_type: Annotated[
        ComputeType,
        Doc("How weights are held. auto: int8 on a CPU, float16 on a GPU."),
    ] = "auto"
    beam_size: Annotated[
        int, Bounds(at_least=1, at_most=16), Doc("Texts followed at a time; 1 is fastest.")
    ] = 5
    voice_only: Annotated[
        bool, Doc("Pass over parts in which nobody speaks, unless a call says otherwise.")
    ] = True
    longest: Annotated[Duration, Doc("Longer recordings are refused before they are decoded.")] = 4 * 3600.0


class EncoderModel(ModelBase, frozen=True, kw_only=True, tag="sentence_transformers"):
    """Embeddings and relevance, by sentence-transformers."""

    purpose: Annotated[
        Literal["embed", "rerank"], Doc("What it is asked for: embeddings, or relevance (a cross-encoder).")
    ] = "embed"
    device: Annotated[Device, Doc("auto: a GPU if torch has one, else the CPU.")] = "auto"
    context: Annotated[
        int | None, Bounds(at_least=8), Doc("Tokens of one text. Default: the model's own.")
    ] = None
    batch_tokens: Annotated[
        int,
        Bounds(at_least=64),
        Doc("Tokens of one forward pass, which calls share."),
    ] = 8192
    query_prompt: Annotated[
        str | None, Doc("Stands before texts that are queries. Default: as the model's files say.")
    ] = None
    document_prompt: Annotated[
        str | None, Doc("Stands before texts that are documents. Default: as the model's files say.")
    ] = None


class VoiceModel(ModelBase, frozen=True, kw_only=True, tag="speech"):
    """Speech, by ONNX voices."""

    voice: Annotated[str | None, NonEmpty(), Doc("For calls that name none of its own.")] = None
    voices: Annotated[
        dict[Name, Annotated[str, NonEmpty()]],
        Doc("Names that clients use (alloy, nova, …) → the model's own voices."),
    ] = field(default_factory=dict)


class PainterModel(ModelBase, frozen=True, kw_only=True, tag="images"):
    """Pictures, by diffusers."""

    device: Annotated[Device, Doc("auto: a GPU if torch has one, else the CPU.")] = "auto"
    dtype: Annotated[
        Literal["auto", "float32", "float16", "bfloat16"],
        Doc("How weights are held. auto: float32 on a CPU, float16 on a GPU."),
    ] = "auto"
    steps: Annotated[
        int | None,
        Bounds(at_least=1, at_most=1000),
        Doc("Where a call names none."),
    ] = None
    guidance: Annotated[
        float | None,
        Bounds(at_least=0, at_most=100),
        Doc("How closely to follow the prompt."),
    ] = None
    most_pixels: Annotated[int, Bounds(at_least=64), Doc("Larger pictures are refused.")] = 2048 * 2048
    most_steps: Annotated[int, Bounds(at_least=1), Doc("Calls that ask for more are refused.")] = 150


class ClassifierModel(ModelBase, frozen=True, kw_only=True, tag="classify"):
    """What a picture shows: transformers' image classifiers, EfficientNet-Lite."""

    device: Annotated[Device, Doc("auto: a GPU if torch has one, else the CPU.")] = "auto"


class TranslatorModel(ModelBase, frozen=True, kw_only=True, tag="translate"):
    """Translation, by CTranslate2: m2m100, NLLB, OPUS."""

    device: Annotated[Device, Doc("auto: a GPU that CTranslate2 can use, else the CPU.")] = "auto"
    compute_type: Annotated[
        ComputeType,
        Doc("How weights are held. auto: int8 on a CPU, float16 on a GPU."),
    ] = "auto"
    beam_size: Annotated[
        int, Bounds(at_least=1, at_most=16), Doc("Texts followed at a time; 1 is fastest.")
    ] = 4
    source: Annotated[
        str | None,
        _LANGUAGE,
        Doc("Of a model that reads one language."),
    ] = None
    target: Annotated[
        str | None,
        _LANGUAGE,
        Doc("Of a model that writes one language."),
    ] = None


class GuardModel(ModelBase, frozen=True, kw_only=True, tag="moderate"):
    """Verdicts on texts, by a text classifier whose labels are categories of harm (transformers)."""

    device: Annotated[Device, Doc("auto: a GPU if torch has one, else the CPU.")] = "auto"
    threshold: Annotated[Share, Doc("An input is of a category from this score on.")] = 0.5


LocalModel: TypeAlias = (
    LlamaModel | WhisperModel | EncoderModel | VoiceModel | PainterModel | ClassifierModel
    | TranslatorModel | GuardModel
)  # fmt: skip
