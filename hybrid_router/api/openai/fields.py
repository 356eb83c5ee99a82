"""Fields that chat and completions share, with OpenAI's ranges."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

from hybrid_router.core.call import Adapter, Sampling
from hybrid_router.core.errors import CallRefused, UnsupportedParameter

ModelName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]
Penalty: TypeAlias = Annotated[float, Meta(ge=-2, le=2)]
Fraction: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
# At most so many tokens; -1, as llama-server and Ollama write it, is no limit.
TokenLimit: TypeAlias = Annotated[int, Meta(ge=-1, le=2**31 - 1)]
TokenId: TypeAlias = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Bias: TypeAlias = Annotated[float, Meta(ge=-100, le=100)]
# OpenAI takes four; editors send more, and every stop string costs a little at each token.
LONGEST_STOP = 1024
StopText: TypeAlias = Annotated[str, Meta(min_length=1, max_length=LONGEST_STOP)]
StopList: TypeAlias = Annotated[list[StopText], Meta(max_length=64)]
_BAN = -100.0
# So far back, in tokens: 0 not at all, -1 the whole context.
Reach: TypeAlias = Annotated[int, Meta(ge=-1, le=2**31 - 1)]
Factor: TypeAlias = Annotated[float, Meta(ge=0, le=100)]
Breaker: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64)]
Grammar: TypeAlias = Annotated[str, Meta(min_length=1, max_length=65_536)]
GrammarOrNone: TypeAlias = Annotated[str, Meta(max_length=65_536)]  # an empty one is none
Pattern: TypeAlias = Annotated[str, Meta(min_length=1, max_length=8_192)]
MOST_CHOICE_CHARACTERS = 4096
Choices: TypeAlias = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=MOST_CHOICE_CHARACTERS)]],
    Meta(min_length=1, max_length=512),
]
AdapterName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=128)]


class StreamOptions(Struct, frozen=True):
    """`stream_options`; what else is in there changes nothing we do."""

    include_usage: bool | None = None


class Lora(Struct, frozen=True):
    """One entry of `lora`.  `id` and `path` are there to be refused by name."""

    name: AdapterName | None = None
    scale: Annotated[float, Meta(ge=-100, le=100)] = 1.0
    id: Any = None
    path: Any = None


class StructuredOutputs(Struct, frozen=True, forbid_unknown_fields=True):
    """`structured_outputs` of vLLM: one form.  Below `json_object` is what would change how it is kept to:
    there to be refused by name, unless it asks for what is done anyway."""

    json: dict[str, Any] | str | None = None
    regex: Pattern | None = None
    choice: Choices | None = None
    grammar: Grammar | None = None
    json_object: bool | None = None
    structural_tag: Any = None
    whitespace_pattern: Any = None
    disable_additional_properties: Any = None
    disable_any_whitespace: Any = None
    disable_fallback: bool | None = None


class CommonBody(Struct, frozen=True, kw_only=True):
    """What chat and completion requests have in common.  Null means: not set.

    The names are OpenAI's where it has one, else llama-server's, with vLLM's beside them.
    """

    model: ModelName
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Fraction | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Fraction | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repeat_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: str | StopList | None = None
    logit_bias: dict[TokenId, Bias] | list[tuple[TokenId, Bias | bool]] | None = None
    typical_p: Fraction | None = None
    repeat_last_n: Reach | None = None
    dry_multiplier: Factor | None = None
    dry_base: Annotated[float, Meta(ge=1, le=100)] | None = None
    dry_allowed_length: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    dry_penalty_last_n: Reach | None = None
    dry_sequence_breakers: Annotated[list[Breaker], Meta(max_length=16)] | None = None
    xtc_probability: Fraction | None = None
    xtc_threshold: Fraction | None = None
    mirostat: Annotated[int, Meta(ge=0, le=2)] | None = None
    mirostat_tau: Factor | None = None
    mirostat_eta: Factor | None = None
    ignore_eos: bool | None = None
    response_format: dict[str, Any] | None = None
    grammar: GrammarOrNone | None = None
    regex: Pattern | None = None
    guided_regex: Pattern | None = None
    json_schema: dict[str, Any] | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_choice: Choices | None = None
    guided_grammar: GrammarOrNone | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_whitespace_pattern: Any = None
    grammar_lazy: Any = None
    grammar_triggers: Any = None
    lora: Annotated[list[Lora], Meta(max_length=8)] | None = None
    truncate: Literal["middle", "oldest"] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    max_tokens: TokenLimit | None = None
    n_predict: TokenLimit | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a usage chunk."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


def most_tokens(body: CommonBody, name: str, *, default: int | None, least: int) -> int | None:
    """What bounds the answer: the field `name`, or llama-server's `n_predict`; -1 is no bound.  None: none.

    Raises:
        CallRefused: there are two, or no answer is so short.
    """
    told, predicted = getattr(body, name), body.n_predict
    for field, count in ((name, told), ("n_predict", predicted)):
        if count is not None and 0 <= count < least:
            raise CallRefused(f"{field}: expected at least {least}, or -1 for no limit", param=field)
    if told is None:
        told = default if predicted is None else predicted
    elif predicted is not None and predicted != told:
        raise CallRefused("n_predict: not together with another max_tokens", param="n_predict")
    return None if told == -1 else told


def sampling(body: CommonBody, max_tokens: int | None) -> Sampling:
    """The body's sampling fields as the core names them; vLLM's `repetition_penalty` is llama.cpp's
    `repeat_penalty`, its `top_k: -1` is our 0: off."""
    return Sampling(
        max_tokens=max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=0 if body.top_k == -1 else body.top_k,
        min_p=body.min_p,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        repeat_penalty=body.repetition_penalty if body.repeat_penalty is None else body.repeat_penalty,
        seed=body.seed,
        stop=_stops(body.stop),
        logit_bias=_biases(body.logit_bias),
        typical_p=body.typical_p,
        repeat_last_n=body.repeat_last_n,
        dry_multiplier=body.dry_multiplier,
        dry_base=body.dry_base,
        dry_allowed_length=body.dry_allowed_length,
        dry_penalty_last_n=body.dry_penalty_last_n,
        dry_sequence_breakers=None
        if body.dry_sequence_breakers is None
        else tuple(body.dry_sequence_breakers),
        xtc_probability=body.xtc_probability,
        xtc_threshold=body.xtc_threshold,
        mirostat=body.mirostat,
        mirostat_tau=body.mirostat_tau,
        mirostat_eta=body.mirostat_eta,
        ignore_eos=bool(body.ignore_eos),
    )


def adapters(lora: list[Lora] | None) -> tuple[Adapter, ...]:
    """The adapters that a call names.

    Raises:
        CallRefused: one has no name, or is there twice.
        UnsupportedParameter: one is chosen by number or by path.
    """
    if not lora:
        return ()
    for i, entry in enumerate(lora):
        for key in ("id", "path"):
            if getattr(entry, key) is not None:
                raise UnsupportedParameter(
                    f"lora[{i}].{key}: adapters are chosen by the name that router.yaml gives them",
                    param=f"lora[{i}].{key}",
                )
        if entry.name is None:
            raise CallRefused(f"lora[{i}].name: this field is required", param=f"lora[{i}].name")
    chosen = tuple(Adapter(entry.name or "", entry.scale) for entry in lora)
    if len({adapter.name for adapter in chosen}) < len(chosen):
        raise CallRefused("lora: an adapter is named twice", param="lora")
    return chosen


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    """`stop` as a tuple; an empty text is none.

    Raises:
        CallRefused: it is too long.
    """
    if isinstance(stop, list):
        return tuple(stop)
    if not stop:
        return ()
    if len(stop) > LONGEST_STOP:
        raise CallRefused(f"stop: expected a text of at most {LONGEST_STOP} characters", param="stop")
    return (stop,)


def _biases(given: dict[int, float] | list[tuple[int, float | bool]] | None) -> dict[int, float]:
    """`logit_bias` as OpenAI has it, or as llama-server's pairs, whose `false` bans a token.

    Raises:
        CallRefused: a bias is `true`.
    """
    if not isinstance(given, list):
        return given or {}
    if any(bias is True for _, bias in given):
        raise CallRefused("logit_bias: expected a number, or false to ban a token", param="logit_bias")
    return {token: _BAN if bias is False else bias for token, bias in given}
