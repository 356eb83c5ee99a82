"""Cloudflare's API and its AI Gateway, as this router is them: their keys.  See `config.schema`."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Struct, field

from hybrid_router.config.kinds import AliasName, Duration, KeptFor
from hybrid_router.config.marks import Bounds, Doc, NonEmpty, Pattern

NamePattern: TypeAlias = Annotated[
    str, Pattern(r"[A-Za-z0-9@*][A-Za-z0-9._:@/*-]{0,127}", "a model's name, with * for any characters")
]
TaskName: TypeAlias = Literal[
    "Text Generation",
    "Text Embeddings",
    "Text Classification",
    "Translation",
    "Summarization",
    "Automatic Speech Recognition",
    "Text-to-Speech",
    "Text-to-Image",
    "Image Classification",
    "Object Detection",
    "Image-to-Text",
]
ProviderName: TypeAlias = Literal["workers-ai", "openai", "huggingface", "replicate", "anthropic", "compat"]
Aliases: TypeAlias = dict[NamePattern, AliasName]


class WorkersAIDialect(Struct, frozen=True, kw_only=True):
    """Apps that were written for Workers AI: which alias answers for which of its models.

    An alias that is named as the model comes first, then `models`, then `tasks`.
    """

    models: Annotated[Aliases, Doc("A model's name, maybe with *, → alias. The first that fits.")] = field(
        default_factory=dict
    )
    tasks: Annotated[
        dict[TaskName, AliasName],
        Doc("A task of Cloudflare's catalogue → alias, for all other models of it."),
    ] = field(default_factory=dict)


class Dialects(Struct, frozen=True, kw_only=True):
    """What clients may speak besides OpenAI's API."""

    workers_ai: Annotated[WorkersAIDialect, Doc("/client/v4/accounts/…/ai, as Cloudflare has it.")] = (
        WorkersAIDialect()
    )


class RateLimit(Struct, frozen=True, kw_only=True):
    """How many calls a gateway takes."""

    calls: Annotated[int, Bounds(at_least=1), Doc("So many in an interval.")]
    interval: Annotated[Duration, Doc("Of what length.")] = 60.0
    technique: Annotated[
        Literal["fixed", "sliding"], Doc("Intervals of the clock, or always the last one.")
    ] = "sliding"


class FrontGateway(Struct, frozen=True, kw_only=True):
    """An AI Gateway that this router is: /v1/ACCOUNT/NAME/PROVIDER/…"""

    cache_ttl: Annotated[
        KeptFor | Literal["off"],
        Doc("How long whole answers are kept (60s to 30d), for the same principal alone."),
    ] = "off"
    rate_limit: Annotated[
        RateLimit | None, Doc("Of all callers together; what is more gets 429. Default: no limit.")
    ] = None
    request_timeout: Annotated[
        Duration | None, Doc("Until the first byte of an answer. Default: as the alias says.")
    ] = None
    max_attempts: Annotated[int, Bounds(at_least=1, at_most=5), Doc("Tries, the first included.")] = 1
    retry_delay: Annotated[Duration, Doc("Between tries.")] = 1.0
    backoff: Annotated[
        Literal["constant", "linear", "exponential"], Doc("How the delay grows with each try.")
    ] = "constant"
    collect_logs: Annotated[
        bool, Doc("Note each try: model, times, tokens, cost; never prompts or answers.")
    ] = True
    providers: Annotated[
        dict[ProviderName, Annotated[Aliases, NonEmpty()]],
        Doc("Provider → its models' names, maybe with *, → alias. Others by an alias of that very name."),
    ] = field(default_factory=dict)
