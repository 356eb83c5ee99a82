"""Whether texts are harmful, by Llama Guard 3: one request a text, and a verdict in either of two forms."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from typing import Any

from msgspec import Struct

from hybrid_router.backends.chunks import Counts
from hybrid_router.backends.errand import Unreadable
from hybrid_router.backends.workers_ai.tasks import bodies, counts, results
from hybrid_router.backends.workers_ai.tasks.pieces import Piece, texts
from hybrid_router.backends.workers_ai.tasks.task import Asked
from hybrid_router.core.errors import Inexpressible
from hybrid_router.core.event import Batch, Finish, Verdict
from hybrid_router.engines.moderate import categories
from hybrid_router.engines.moderate.hazards import LLAMA_GUARD_3

_NUMBER = re.compile(r"[SO]\d{1,2}")
_WORDS = {"safe": True, "unsafe": False}


class _Formed(Struct, gc=False):
    safe: bool
    categories: list[str] | None = None


class _Said(Struct, gc=False):
    response: str | _Formed
    usage: Counts | None = None


def write(asked: Asked) -> list[Piece]:
    """A request for each text.

    Raises:
        Inexpressible: an input is a picture or token ids.
    """
    if asked.call.uploads:
        raise Inexpressible("this Workers AI model judges text alone", param="input")
    return [
        Piece(bodies.document(asked.model, document(text)), partial(decode, index=index))
        for index, text in enumerate(texts(asked.call))
    ]


def document(text: str) -> dict[str, Any]:
    """The likeliest verdict is wanted, so no dice are thrown."""
    return {"messages": [{"role": "user", "content": text}], "temperature": 0}


def decode(body: bytes, *, index: int) -> Batch:
    """The verdict.  How likely it is, nobody tells: so a category's score is 0 or 1.

    Raises:
        Unreadable: it is none.
    """
    told = results.read(body, _Said, "a verdict")
    is_safe, found = _of_words(told.response) if isinstance(told.response, str) else _of_form(told.response)
    named = () if is_safe else of_hazards(found)
    scores = dict.fromkeys(categories.OPENAI, 0.0) | dict.fromkeys(named, 1.0)
    verdict = Verdict(flagged=named, scores=tuple(scores.items()), index=index)
    return [verdict, Finish("stop", index), *counts.usage(told.usage)]


def _of_form(said: _Formed) -> tuple[bool, Iterable[str]]:
    return said.safe, said.categories or ()


def _of_words(said: str) -> tuple[bool, Iterable[str]]:
    """`safe`, or `unsafe` and a line with the numbers of hazards."""
    first, _, rest = said.strip().partition("\n")
    is_safe = _WORDS.get(first.strip().casefold())
    if is_safe is None:
        raise Unreadable("answered without a verdict")
    return is_safe, rest.split(",")


def of_hazards(found: Iterable[str]) -> tuple[str, ...]:
    """The categories of hazards, told by number or by name; `unsafe` itself where that says nothing."""
    names = [LLAMA_GUARD_3.get(each.strip().upper(), each.strip()) for each in found]
    known = [name for name in names if name and not _NUMBER.fullmatch(name.upper())]
    return tuple(dict.fromkeys(one for name in known for one in categories.of_label(name))) or ("unsafe",)
