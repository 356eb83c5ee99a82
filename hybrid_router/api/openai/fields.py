"""Fields that chat and completions share, with OpenAI's ranges."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from hybrid_router.core.call import Sampling
from hybrid_router.core.errors import CallRefused

ModelName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]
Penalty: TypeAlias = Annotated[float, Meta(ge=-2, le=2)]
Fraction: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
TokenCount: TypeAlias = Annotated[int, Meta(ge=1, le=2**31 - 1)]
TokenId: TypeAlias = Annotated[int, Meta(ge=0, le=2**31 - 1)]
# OpenAI takes four; editors send more, and every stop string costs a little at each token.
LONGEST_STOP = 1024
StopText: TypeAlias = Annotated[str, Meta(min_length=1, max_length=LONGEST_STOP)]
StopList: TypeAlias = Annotated[list[StopText], Meta(max_length=64)]


class StreamOptions(Struct, frozen=True):
    """`stream_options`; what else is in there changes nothing we do."""

    include_usage: bool | None = None


class CommonBody(Struct, frozen=True, kw_only=True):
    """What chat and completion requests have in common.  Null means: not set."""

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
    logit_bias: dict[TokenId, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    max_tokens: TokenCount | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a usage chunk."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


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
        logit_bias=body.logit_bias or {},
    )


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    """`stop` as a tuple.  An empty string would stop everything at once, so it is refused."""
    if stop is None:
        return ()
    if isinstance(stop, list):
        return tuple(stop)
    if not 1 <= len(stop) <= LONGEST_STOP:
        raise CallRefused(f"stop: expected a text of 1 to {LONGEST_STOP} characters", param="stop")
    return (stop,)
