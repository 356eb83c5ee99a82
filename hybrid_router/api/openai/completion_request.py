"""POST /v1/completions: wire → `Call`."""

from __future__ import annotations

from typing import Annotated, Unpack

import msgspec
from msgspec import Meta, Struct

from hybrid_router.api.openai import form, malformed, prompts, sender
from hybrid_router.api.openai.fields import CommonBody, adapters, most_tokens, sampling
from hybrid_router.api.openai.sender import Sender
from hybrid_router.core.call import Call, Feature, Operation
from hybrid_router.core.errors import CallRefused, UnsupportedParameter

DEFAULT_MAX_TOKENS = 16  # OpenAI's own
MOST_PROMPTS = 128
MOST_CHOICES = 1024


class CompletionBody(CommonBody, frozen=True, kw_only=True):
    """The fields that a completion is made of."""

    prompt: prompts.Prompts
    echo: bool | None = None
    logprobs: bool | Annotated[int, Meta(ge=0, le=5)] | None = None
    suffix: str | None = None
    best_of: Annotated[int, Meta(ge=1, le=128)] | None = None


class CompletionRequest(Struct, frozen=True):
    """A call, and how its client wants to read the answer."""

    call: Call
    include_usage: bool
    echo: bool


_DECODER = msgspec.json.Decoder(CompletionBody)
_KNOWN = frozenset(CompletionBody.__struct_fields__)


def decode(body: bytes, **asker: Unpack[Sender]) -> CompletionRequest:
    """Read a completion request.

    Raises:
        CallRefused: for anything that is wrong with it.
    """
    asked, extra = malformed.read(_DECODER, _KNOWN, body)
    texts = prompts.read(asked.prompt, "prompt", MOST_PROMPTS)
    n = asked.n or 1
    if asked.best_of is not None and asked.best_of > n:
        raise UnsupportedParameter("best_of: choices are not compared; ask for n of them", param="best_of")
    if n * len(texts) > MOST_CHOICES:
        raise CallRefused(f"n: {n} of {len(texts)} prompts are more than {MOST_CHOICES} choices", param="n")
    echo, top_logprobs = bool(asked.echo), _top_logprobs(asked.logprobs)
    scored = top_logprobs is not None
    if echo and not scored and not all(isinstance(text, str) for text in texts):
        raise UnsupportedParameter("echo of token ids needs logprobs, which bring their text", param="echo")
    wanted, chosen, suffix = form.wanted(asked), adapters(asked.lora), asked.suffix or None
    needs = {Feature.LOGPROBS: scored, Feature.INFILL: suffix is not None, Feature.ADAPTERS: bool(chosen)}
    call = Call(
        operation=Operation.COMPLETE,
        alias=asked.model,
        prompts=texts,
        sampling=sampling(asked, most_tokens(asked, "max_tokens", default=DEFAULT_MAX_TOKENS, least=0)),
        n=n,
        stream=bool(asked.stream),
        response_format=wanted,
        top_logprobs=top_logprobs,
        echo=echo and scored,
        suffix=suffix,
        truncate=asked.truncate,
        adapters=chosen,
        features=form.feature(wanted) | {feature for feature, is_asked in needs.items() if is_asked},
        **sender.fields(asker, extra),
    )
    return CompletionRequest(call, asked.include_usage, echo)


def _top_logprobs(logprobs: bool | int | None) -> int | None:
    """How many others are scored beside each token.  The truth values that chats have mean one, and none."""
    if isinstance(logprobs, bool):
        return 1 if logprobs else None
    return logprobs
