"""POST /v1/completions: wire → `Call`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, Struct

from hybrid_router.api import limits
from hybrid_router.api.openai import malformed
from hybrid_router.api.openai.fields import CommonBody, TokenId, sampling
from hybrid_router.core.call import Call, Feature, Operation
from hybrid_router.core.errors import CallRefused, UnsupportedParameter

DEFAULT_MAX_TOKENS = 16  # OpenAI's own
MOST_PROMPTS = 128
MOST_CHOICES = 1024

Tokens: TypeAlias = list[TokenId]


class CompletionBody(CommonBody, frozen=True, kw_only=True):
    """The fields that a completion is made of."""

    # Narrower than it is, for msgspec takes one array type a union: `_prompts` tells texts, token
    # ids and lists of token ids apart.
    prompt: str | list[str | TokenId | Tokens]
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    suffix: str | None = None
    best_of: Annotated[int, Meta(ge=1, le=128)] | None = None


class CompletionRequest(Struct, frozen=True):
    """A call, and how its client wants to read the answer."""

    call: Call
    include_usage: bool
    echo: bool


_DECODER = msgspec.json.Decoder(CompletionBody)
_KNOWN = frozenset(CompletionBody.__struct_fields__)


def decode(
    body: bytes, *, call_id: str, principal: str, headers: Mapping[str, str], path: str = ""
) -> CompletionRequest:
    """Read a completion request.

    Raises:
        CallRefused: for anything that is wrong with it.
    """
    asked, extra = malformed.read(_DECODER, _KNOWN, body)
    prompts = _prompts(asked.prompt)
    n = asked.n or 1
    _refuse_unsupported(asked, n)
    if n * len(prompts) > MOST_CHOICES:
        raise CallRefused(f"n: {n} of {len(prompts)} prompts are more than {MOST_CHOICES} choices", param="n")
    echo = bool(asked.echo)
    if echo and not all(isinstance(prompt, str) for prompt in prompts):
        raise UnsupportedParameter("echo needs prompts that are texts", param="echo")
    if asked.logprobs is not None:
        extra["logprobs"] = asked.logprobs
    call = Call(
        id=call_id,
        operation=Operation.COMPLETE,
        alias=asked.model,
        prompts=prompts,
        sampling=sampling(asked, DEFAULT_MAX_TOKENS if asked.max_tokens is None else asked.max_tokens),
        n=n,
        stream=bool(asked.stream),
        features=frozenset() if asked.logprobs is None else frozenset({Feature.LOGPROBS}),
        principal=principal,
        headers=headers,
        path=path,
        deadline_s=limits.deadline_s(headers),
        max_cost_usd=limits.max_cost_usd(headers),
        extra=extra,
    )
    return CompletionRequest(call, asked.include_usage, echo)


def _refuse_unsupported(asked: CompletionBody, n: int) -> None:
    """Refuse what would be answered wrongly otherwise."""
    if asked.suffix:
        raise UnsupportedParameter(
            "suffix is not supported; write the model's own infill tokens", param="suffix"
        )
    if asked.best_of is not None and asked.best_of > n:
        raise UnsupportedParameter("best_of is not supported", param="best_of")


def _prompts(prompt: str | list[Any]) -> tuple[str | tuple[int, ...], ...]:
    """The prompts: one text, texts, one list of token ids, or lists of them."""
    if isinstance(prompt, str):
        return (prompt,)
    if not prompt:
        raise CallRefused("prompt: expected a text or tokens", param="prompt")
    if all(isinstance(item, int) for item in prompt):
        return (tuple(prompt),)
    kind = type(prompt[0])
    if kind is int or any(type(item) is not kind for item in prompt):
        raise CallRefused("prompt: texts, token ids and lists of token ids do not mix", param="prompt")
    if len(prompt) > MOST_PROMPTS:
        raise CallRefused(f"prompt: {MOST_PROMPTS} prompts are accepted", param="prompt")
    if not all(prompt) and kind is list:
        raise CallRefused("prompt: a list of token ids is empty", param="prompt")
    return tuple(prompt) if kind is str else tuple(tuple(tokens) for tokens in prompt)
