"""The keys of clouds in router.yaml, for each kind of them.  See `config.schema`."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Struct, field

from hybrid_router.config.backend_schema import LocalBackend, SecretSource, Waits
from hybrid_router.config.kinds import Clock, Duration, KeptFor, ModelName, Share
from hybrid_router.config.marks import Bounds, Doc, NonEmpty, NotHere, Pattern

_HTTP = Pattern(r"https?://[^\s?#@]+", "an http(s) address without query or user")
_NOT_HERE = NotHere("never in this file, only where it is: { env: NAME_OF_A_VARIABLE }")
OperationName: TypeAlias = Literal[
    "chat", "complete", "embed", "rerank", "transcribe", "speak", "image", "classify", "translate", "moderate"
]
FeatureName: TypeAlias = Literal[
    "tools",
    "images",
    "audio",
    "schema",
    "logprobs",
    "prefill",
    "speech_translation",
    "image_input",
    "inpainting",
]


class TokenPrice(Struct, frozen=True, kw_only=True):
    """What a million tokens cost, in whatever is paid with."""

    input: Annotated[float, Bounds(at_least=0), Doc("Of the prompt.")]
    output: Annotated[float, Bounds(at_least=0), Doc("Of the answer.")]
    cached_input: Annotated[
        float | None, Bounds(at_least=0), Doc("Of what the prompt cache held. Default: as input.")
    ] = None


class Rate(TokenPrice, frozen=True, kw_only=True):
    """What a model costs, in neurons: for a million tokens, and for what is not counted in tokens."""

    picture: Annotated[float, Bounds(at_least=0), Doc("For each picture that is made.")] = 0.0
    minute: Annotated[float, Bounds(at_least=0), Doc("For a minute of sound, heard or made.")] = 0.0
    thousand_characters: Annotated[
        float, Bounds(at_least=0), Doc("For a thousand characters that are spoken.")
    ] = 0.0


class Neurons(Struct, frozen=True, kw_only=True):
    """What an account may use in a day. Days are UTC, as Cloudflare counts them."""

    daily: Annotated[
        float, Bounds(at_least=0), Doc("Neurons a day. More are never used unless overflow_usd is set.")
    ] = 10_000.0
    pace: Annotated[
        dict[Clock, Share],
        Doc("UTC time → share of the day's neurons that may be gone by then; before it, no more is used."),
    ] = field(default_factory=dict)
    reserve: Annotated[
        float, Bounds(at_least=0), Doc("Neurons kept for aliases and rules that say `reserve: true`.")
    ] = 0.0
    overflow_usd: Annotated[
        float | None,
        Bounds(at_least=0),
        Doc("US dollars a day that may be spent once the day's neurons are gone. Default: nothing."),
    ] = None
    rates: Annotated[
        dict[ModelName, Rate], Doc("Prices that replace the catalogue's, or add a model it does not know.")
    ] = field(default_factory=dict)


class Gateway(Struct, frozen=True, kw_only=True):
    """An AI Gateway of the account, through which calls go. What is left out is as the gateway is set."""

    id: Annotated[str, Pattern(r"[A-Za-z0-9_-]{1,64}", "a gateway's id"), Doc("Which gateway.")]
    through: Annotated[
        Literal["api", "host"],
        Doc("The API with the gateway's id in a header (api), or the gateway's own host (host)."),
    ] = "api"
    base_url: Annotated[str, _HTTP, Doc("The gateway's host, for `through: host`.")] = (
        "https://gateway.ai.cloudflare.com/v1"
    )
    token: Annotated[
        SecretSource | None,
        _NOT_HERE,
        Doc(
            "A token with AI Gateway Run, where the gateway is authenticated. Sent beside the backend's own."
        ),
    ] = None
    cache_ttl: Annotated[
        KeptFor | Literal["off"] | None, Doc("How long answers are kept there (60s to 30d); off: never.")
    ] = None
    skip_cache: Annotated[bool, Doc("Answers are computed anew, and kept.")] = False
    request_timeout: Annotated[
        Duration | None, Doc("Until the first byte; then the gateway tries again.")
    ] = None
    max_attempts: Annotated[
        int | None, Bounds(at_least=1, at_most=5), Doc("Tries there, the first included.")
    ] = None
    retry_delay: Annotated[Duration | None, Doc("Between tries, 5s at most.")] = None
    backoff: Annotated[
        Literal["constant", "linear", "exponential"] | None, Doc("How the delay grows with each try.")
    ] = None
    collect_log: Annotated[bool | None, Doc("Whether the gateway notes the call.")] = None
    collect_log_payload: Annotated[
        bool,
        Doc("Whether the gateway keeps prompts and answers. By default it is told not to."),
    ] = False
    metadata: Annotated[
        dict[str, str | int | float | bool], Doc("Sent with each call: 5 entries at most.")
    ] = field(default_factory=dict)


class SpeechTranslation(Struct, frozen=True, kw_only=True):
    """Who helps a model that only writes down what it hears to say it in English."""

    identify: Annotated[
        ModelName | None,
        Doc("A model that chats, asked which language a text is in where nobody else can tell."),
    ] = None
    translate: Annotated[ModelName, Doc("The model that translates.")] = "@cf/meta/m2m100-1.2b"


class WorkersAIBackend(Struct, frozen=True, kw_only=True, tag="workers_ai", tag_field="type"):
    """Cloudflare Workers AI over REST."""

    account_id: Annotated[
        SecretSource | str,
        Pattern(r"[0-9a-fA-F]{32}", "32 hexadecimal digits"),
        Doc("The account: 32 hexadecimal digits, or where to find them."),
    ]
    token: Annotated[
        SecretSource,
        NotHere("never in this file, only where it is: { env: CLOUDFLARE_API_TOKEN }"),
        Doc("An API token with Workers AI Read. Never written into this file."),
    ]
    base_url: Annotated[
        str,
        _HTTP,
        Doc("Where the API is. Point it at the emulator to try without an account."),
    ] = "https://api.cloudflare.com/client/v4"
    chat_endpoint: Annotated[
        Literal["v1", "run"],
        Doc("Chat through /ai/v1/chat/completions (v1) or the model's native /ai/run (run)."),
    ] = "v1"
    models: Annotated[tuple[ModelName, ...], Doc("Models that aliases may name. Empty: any.")] = ()
    default_max_tokens: Annotated[
        int, Bounds(at_least=1), Doc("Sent when the client names none; Cloudflare's own default is 256.")
    ] = 2048
    minute_limits: Annotated[
        bool, Doc("Keep to Cloudflare's limits of requests a minute; false where the account has others.")
    ] = True
    prefills: Annotated[
        tuple[ModelName, ...],
        Doc("Models known to go on from an answer's beginning, sent as the assistant's last message."),
    ] = ()
    pooling: Annotated[
        Literal["mean", "cls"],
        Doc("How the bge models make one vector of a text. Vectors of the two do not compare."),
    ] = "mean"
    speakers: Annotated[
        dict[str, str],
        Doc(
            "A client's word for a voice → the model's speaker, or MeloTTS's language. OpenAI's voices that"
            " are not named here are the model's default."
        ),
    ] = field(default_factory=dict)
    speech_translation: Annotated[
        SpeechTranslation, Doc("Which models make English of speech that another model wrote down.")
    ] = SpeechTranslation()
    neurons: Annotated[Neurons, Doc("What may be used in a day.")] = Neurons()
    gateway: Annotated[Gateway | None, Doc("Send calls through an AI Gateway.")] = None
    timeouts: Annotated[Waits, Doc("Replace the global ones for this backend.")] = Waits()


class Price(TokenPrice, frozen=True, kw_only=True):
    """What a model costs, in US dollars for a million tokens."""


class CloudModel(Struct, frozen=True, kw_only=True):
    """A cloud's model, of which nobody but you can say what it does."""

    does: Annotated[tuple[OperationName, ...], NonEmpty(), Doc("What it can be asked.")] = ("chat",)
    can: Annotated[tuple[FeatureName, ...], Doc("What it can do beyond text.")] = ("tools", "schema")
    context: Annotated[int | None, Bounds(at_least=1), Doc("Tokens of prompt and answer together.")] = None
    price: Annotated[Price | None, Doc("What it costs. Default: not known, not counted.")] = None


CloudModels: TypeAlias = dict[ModelName, CloudModel]


class OpenAIBackend(Struct, frozen=True, kw_only=True, tag="openai", tag_field="type"):
    """Whatever speaks OpenAI's API: OpenAI, llama-server, vLLM, Ollama, another router."""

    models: Annotated[CloudModels, NonEmpty(), Doc("Models by the name that is sent.")]
    base_url: Annotated[str, _HTTP, Doc("Where the API is, up to and with /v1.")] = (
        "https://api.openai.com/v1"
    )
    token: Annotated[SecretSource | None, _NOT_HERE, Doc("The API key. Default: none is sent.")] = None
    max_tokens_field: Annotated[
        Literal["max_tokens", "max_completion_tokens"],
        Doc("How a chat's limit is called: OpenAI's newer models take the second alone."),
    ] = "max_tokens"
    default_max_tokens: Annotated[
        int | None, Bounds(at_least=1), Doc("Sent when the client names none. Default: nothing is sent.")
    ] = None
    on_this_machine: Annotated[
        bool, Doc("It runs here and keeps private text here: it counts as local. Loopback addresses only.")
    ] = False
    timeouts: Annotated[Waits, Doc("Replace the global ones for this backend.")] = Waits()


class AnthropicBackend(Struct, frozen=True, kw_only=True, tag="anthropic", tag_field="type"):
    """Anthropic's Messages API."""

    models: Annotated[CloudModels, NonEmpty(), Doc("Models by the name that is sent.")]
    token: Annotated[SecretSource, _NOT_HERE, Doc("The API key.")]
    base_url: Annotated[str, _HTTP, Doc("Where the API is, without /v1.")] = "https://api.anthropic.com"
    default_max_tokens: Annotated[
        int, Bounds(at_least=1), Doc("Sent when the client names none; the API demands one.")
    ] = 4096
    timeouts: Annotated[Waits, Doc("Replace the global ones for this backend.")] = Waits()


class HuggingFaceBackend(Struct, frozen=True, kw_only=True, tag="huggingface", tag_field="type"):
    """Hugging Face: Inference Providers for chat, the per-model task API for the rest."""

    models: Annotated[CloudModels, NonEmpty(), Doc("Models by repository, maybe with `:provider`.")]
    token: Annotated[SecretSource, _NOT_HERE, Doc("An access token that may call Inference Providers.")]
    base_url: Annotated[str, _HTTP, Doc("The router that speaks OpenAI's API.")] = (
        "https://router.huggingface.co/v1"
    )
    tasks_url: Annotated[str, _HTTP, Doc("The task API: `/models/REPOSITORY` follows.")] = (
        "https://router.huggingface.co/hf-inference"
    )
    default_max_tokens: Annotated[
        int | None, Bounds(at_least=1), Doc("Sent when the client names none. Default: nothing is sent.")
    ] = None
    timeouts: Annotated[Waits, Doc("Replace the global ones for this backend.")] = Waits()


InputName: TypeAlias = Annotated[
    str,
    Pattern(
        "prompt|messages|system|max_tokens|temperature|top_p|top_k|stop|seed|presence_penalty"
        "|frequency_penalty|image|negative|width|height|steps|guidance|strength|format|audio|language|translate"
        "|text|voice|speed",
        "one of prompt, messages, system, max_tokens, temperature, top_p, top_k, stop, seed, "
        "presence_penalty, frequency_penalty, image, negative, width, height, steps, guidance, strength, "
        "format, audio, language, translate, text, voice, speed",
    ),
]


class ReplicateModel(CloudModel, frozen=True, kw_only=True):
    """A model of Replicate's, whose inputs are called as its author liked."""

    input: Annotated[
        dict[InputName, str],
        Doc("What is given to it → how the model calls that, where it is not as usual; empty: never sent."),
    ] = field(default_factory=dict)
    fixed: Annotated[
        dict[str, str],
        Doc("Inputs that are the same for every call, by the model's names; JSON where it can be read so."),
    ] = field(default_factory=dict)


class ReplicateBackend(Struct, frozen=True, kw_only=True, tag="replicate", tag_field="type"):
    """Replicate: predictions that are made, waited for, streamed and cancelled."""

    models: Annotated[
        dict[ModelName, ReplicateModel], NonEmpty(), Doc("Models as `owner/name`, or `owner/name:version`.")
    ]
    token: Annotated[SecretSource, _NOT_HERE, Doc("The API token.")]
    base_url: Annotated[str, _HTTP, Doc("Where the API is.")] = "https://api.replicate.com/v1"
    default_max_tokens: Annotated[
        int | None, Bounds(at_least=1), Doc("Sent when the client names none. Default: nothing is sent.")
    ] = None
    timeouts: Annotated[Waits, Doc("Replace the global ones for this backend.")] = Waits()


DeclaredCloud: TypeAlias = OpenAIBackend | AnthropicBackend | HuggingFaceBackend | ReplicateBackend
CloudBackend: TypeAlias = WorkersAIBackend | DeclaredCloud
BackendConfig: TypeAlias = LocalBackend | CloudBackend


def is_local(backend: BackendConfig) -> bool:
    """Whether what a backend is given stays on this machine."""
    if isinstance(backend, OpenAIBackend):
        return backend.on_this_machine
    return isinstance(backend, LocalBackend)
