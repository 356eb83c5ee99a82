"""Log probabilities as OpenAI's chunks and whole answers have them, of chats and of completions."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Struct

from hybrid_router.backends.chunks import Choice
from hybrid_router.backends.errand import Unreadable, malformed
from hybrid_router.core.event import TokenScore


class _Other(Struct, gc=False):
    token: str
    logprob: float
    bytes: list[int] | None = None


class _Score(_Other, gc=False):
    top_logprobs: list[_Other] = []


class _Scores(Struct, gc=False):
    """Both forms: `content` of chats and of llama-server, lists beside each other of completions."""

    content: list[_Score] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


_SCORES = msgspec.json.Decoder(_Scores | None)


def scores(choice: Choice) -> tuple[TokenScore, ...]:
    """The scores of a choice's or a chunk's tokens.

    Raises:
        Unreadable: they are none.
    """
    if choice.logprobs is UNSET:
        return ()
    try:
        told = _SCORES.decode(choice.logprobs)
    except (ValueError, RecursionError) as error:
        raise malformed(error) from None
    if told is None:
        return ()
    if told.content is not None:
        return tuple(_score(each) for each in told.content)
    return _columns(told)


def _score(each: _Score) -> TokenScore:
    top = tuple(TokenScore(_bytes(other), other.logprob) for other in each.top_logprobs)
    return TokenScore(_bytes(each), each.logprob, top)


def _bytes(each: _Other) -> bytes:
    try:
        return each.token.encode() if each.bytes is None else bytes(each.bytes)
    except ValueError as error:
        raise malformed(error) from None


def _columns(told: _Scores) -> tuple[TokenScore, ...]:
    tokens, logprobs = told.tokens or [], told.token_logprobs or []
    if len(tokens) != len(logprobs):
        raise Unreadable("sent what is not its format", detail="tokens and token_logprobs differ in length")
    tops = told.top_logprobs or [None] * len(tokens)
    return tuple(
        TokenScore(token.encode(), logprob, _top(top))
        for token, logprob, top in zip(tokens, logprobs, tops, strict=False)
    )


def _top(top: dict[str, float] | None) -> tuple[TokenScore, ...]:
    ranked = sorted((top or {}).items(), key=lambda pair: -pair[1])
    return tuple(TokenScore(token.encode(), logprob) for token, logprob in ranked)
