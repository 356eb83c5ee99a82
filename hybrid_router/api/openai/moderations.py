"""POST /v1/moderations: its answer."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from hybrid_router.api import body, calls, data_urls
from hybrid_router.api.openai import endpoints, moderation_request, reply
from hybrid_router.api.openai.moderation_request import ModerationRequest
from hybrid_router.core.call import Call
from hybrid_router.core.errors import StreamBroken
from hybrid_router.core.event import Batch, Verdict
from hybrid_router.engines.moderate.categories import OPENAI

# Which of a part's kinds OpenAI says that a category is looked for in.
_OF_IMAGES = frozenset(
    {"self-harm", "self-harm/intent", "self-harm/instructions", "sexual", "violence", "violence/graphic"}
)


async def moderate(request: web.Request) -> web.StreamResponse:
    """POST /v1/moderations."""
    raw = await body.read(request)
    asked = endpoints.decoded(request, raw, moderation_request.decode, "modr-", request.path)
    with data_urls.uploads(request, asked.images) as uploads:
        call = asked.with_files(uploads)
        return await calls.plain(request, call, lambda events: document(call, asked, events))


def document(call: Call, asked: ModerationRequest, events: Batch) -> bytes:
    """The list of results: one for each text, or one for all parts together.

    Raises:
        StreamBroken: a verdict is missing.
    """
    verdicts = _each(call, events)
    texts, images = verdicts[: len(call.prompts)], verdicts[len(call.prompts) :]
    results = [_result(texts, images)] if asked.joint else [_result([one], []) for one in texts]
    return msgspec.json.encode({"id": call.id, "model": call.alias, "results": results})


def _each(call: Call, events: Batch) -> list[Verdict]:
    """The verdict on every input, in their order."""
    found = {event.index: event for event in events if isinstance(event, Verdict)}
    if any(not 0 <= index < call.choices_count for index in found):
        raise reply.unasked()
    if len(found) < call.choices_count:
        raise StreamBroken("the answer lacks what was asked for of some inputs")
    return [found[index] for index in range(call.choices_count)]


def _result(texts: list[Verdict], images: list[Verdict]) -> dict[str, Any]:
    """One result.  A category that OpenAI has no word for is there only if it is flagged."""
    verdicts = texts + images
    flagged = {category for verdict in verdicts for category in verdict.flagged}
    scores: dict[str, float] = dict.fromkeys(OPENAI, 0.0)
    for category, score in (pair for verdict in verdicts for pair in verdict.scores):
        if category in scores or category in flagged:
            scores[category] = max(scores.get(category, 0.0), score)
    for category in sorted(flagged):
        scores.setdefault(category, 1.0)
    return {
        "flagged": bool(flagged),
        "categories": {category: category in flagged for category in scores},
        "category_scores": scores,
        "category_applied_input_types": {
            category: _kinds(category, texts=bool(texts), images=bool(images)) for category in scores
        },
    }


def _kinds(category: str, *, texts: bool, images: bool) -> list[str]:
    seen = images and (category in _OF_IMAGES or category not in OPENAI)
    return [kind for kind, is_there in (("text", texts), ("image", seen)) if is_there]
