"""What a completion goes on from, and what is embedded: texts, or token ids of the model's own vocabulary."""

from __future__ import annotations

from typing import Any, TypeAlias

from hybrid_router.api.openai.fields import TokenId
from hybrid_router.core.errors import CallRefused

Tokens: TypeAlias = list[TokenId]
# Narrower than it is, for msgspec takes one array type a union: `read` tells texts, token ids and lists of
# token ids apart.
Prompts: TypeAlias = str | list[str | TokenId | Tokens]


def read(given: str | list[Any], name: str, most: int) -> tuple[str | tuple[int, ...], ...]:
    """The prompts: one text, one list of token ids, or a list of such; at most `most`.

    Raises:
        CallRefused: there is none, too many, or single token ids among others; `name` is the field's.
    """
    if isinstance(given, str):
        return (given,)
    if not given:
        raise CallRefused(f"{name}: expected a text or tokens", param=name)
    if all(isinstance(item, int) for item in given):
        return (tuple(given),)
    if any(isinstance(item, int) for item in given):
        raise CallRefused(f"{name}: token ids do not mix with texts; put them in a list", param=name)
    if len(given) > most:
        raise CallRefused(f"{name}: at most {most} are accepted", param=name)
    if [] in given:
        raise CallRefused(f"{name}: a list of token ids is empty", param=name)
    return tuple(item if isinstance(item, str) else tuple(item) for item in given)
