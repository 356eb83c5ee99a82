"""Moderations: texts together, each image by itself, since a list of parts gets one verdict for all."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from hybrid_router.backends.errand import Errand, Reader, Unreadable
from hybrid_router.backends.forms import data_url
from hybrid_router.backends.openai.chat import Manner, extra
from hybrid_router.backends.openai.reply import each_finished, read
from hybrid_router.backends.readers import Whole
from hybrid_router.core.call import Call
from hybrid_router.core.event import Batch, Verdict

_UNNAMED = "unsafe"


class _Result(Struct, gc=False):
    flagged: bool = False
    categories: dict[str, bool | None] = {}
    category_scores: dict[str, float | None] = {}


class _Results(Struct):
    results: list[_Result]


def verdicts(call: Call, model: str, manner: Manner) -> list[tuple[Errand, Reader]]:
    """A request for the texts, and one for each image."""
    more = extra(call, manner)
    asked = [_asked(model, list(call.prompts), len(call.prompts), 0, more)] if call.prompts else []
    for place, upload in enumerate(call.uploads, len(call.prompts)):
        image = {"type": "image_url", "image_url": {"url": data_url(upload, "image/png")}}
        asked.append(_asked(model, [image], 1, place, more))
    return asked


def _asked(
    model: str, given: list[Any], count: int, first: int, more: dict[str, Any]
) -> tuple[Errand, Reader]:
    body = msgspec.json.encode({"model": model, "input": given, **more})
    return Errand(path="moderations", body=body), Whole(lambda told: _judged(told, count, first))


def _judged(body: bytes, count: int, first: int) -> Batch:
    told = read(body, _Results)
    if len(told.results) != count:
        raise Unreadable(f"judged {len(told.results)} inputs, and {count} were asked for")
    events: Batch = [_verdict(one, first + place) for place, one in enumerate(told.results)]
    return [*events, *each_finished(count, None, first)]


def _verdict(one: _Result, index: int) -> Verdict:
    flagged = tuple(category for category, is_so in one.categories.items() if is_so)
    scores = tuple((category, score) for category, score in one.category_scores.items() if score is not None)
    return Verdict(flagged or ((_UNNAMED,) if one.flagged else ()), scores, index)
