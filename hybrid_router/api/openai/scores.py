"""Log probabilities as OpenAI writes them: one form for chats, another for completions.

A token that is no whole character is written with escapes, as OpenAI does; `bytes` has it as it is.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import Any

from hybrid_router.core.event import TokenScore

_LEAST = -9999.0  # what OpenAI writes for a token that cannot come: JSON has no infinity


def shown(token: bytes) -> str:
    r"""A token as text; of half a character its bytes, as `\xe2\x82`."""
    return token.decode("utf-8", "backslashreplace")


def of_chat(scores: Iterable[TokenScore]) -> dict[str, Any]:
    """`logprobs` of a chat's choice, or of a chunk of it."""
    content = [{**_entry(score), "top_logprobs": [_entry(other) for other in score.top]} for score in scores]
    return {"content": content, "refusal": None}


def _entry(score: TokenScore) -> dict[str, Any]:
    return {
        "token": shown(score.token),
        "logprob": _LEAST if score.logprob is None else max(_LEAST, score.logprob),
        "bytes": list(score.token),
    }


class Column:
    """`logprobs` of one completion's choice: lists beside each other, in one go or piece by piece.

    `text_offset` is where in the choice's own text a token begins, in characters.  Of a token that begins
    within a character it is where that character does.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._at_char = 0

    def of_prompt(self, scores: tuple[TokenScore, ...], text: str) -> dict[str, Any]:
        """Those of the prompt, which is shown as `text`: what else its tokens begin with stands before it."""
        told = self.of(scores)
        before = max(0, self._at_char - len(text))
        told["text_offset"] = [max(0, at - before) for at in told["text_offset"]]
        self.begin_at(len(text))
        return told

    def begin_at(self, char: int) -> None:
        """The next token begins there."""
        self._at_char = char
        self._decoder.reset()

    def of(self, scores: Iterable[TokenScore]) -> dict[str, Any]:
        """Those of the next tokens."""
        told: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for score in scores:
            told["tokens"].append(_legacy(score.token))
            told["token_logprobs"].append(None if score.logprob is None else max(_LEAST, score.logprob))
            told["top_logprobs"].append(_top(score))
            told["text_offset"].append(self._at_char)
            self._at_char += len(self._decoder.decode(score.token))
        return told


def joined(columns: list[dict[str, Any]]) -> dict[str, Any]:
    """Several pieces as one."""
    return {name: [value for column in columns for value in column[name]] for name in columns[0]}


def _top(score: TokenScore) -> dict[str, float] | None:
    """The likeliest tokens of a place, and the one that stands there; None where none was predicted."""
    if score.logprob is None:
        return None
    told = {_legacy(other.token): max(_LEAST, other.logprob or 0.0) for other in score.top}
    return {**told, _legacy(score.token): max(_LEAST, score.logprob)}


def _legacy(token: bytes) -> str:
    try:
        return token.decode()
    except UnicodeDecodeError:
        return f"bytes:{shown(token)}"
