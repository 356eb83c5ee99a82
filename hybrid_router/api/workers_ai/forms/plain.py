"""What forms have in common whose answer is one document."""

from __future__ import annotations

from typing import Any

import msgspec

from hybrid_router.api.calls import Chunks
from hybrid_router.api.workers_ai.form import Given, Reply
from hybrid_router.api.workers_ai.refusal import wrapped
from hybrid_router.core.call import Call


class Plain:
    """The answer is a document in the envelope."""

    def chunks(self, given: Given, call: Call) -> Chunks | None:
        """There is no stream."""
        return None

    def media_type(self, given: Given, call: Call) -> str:
        """Of the document."""
        return "application/json"


def enveloped(result: Any) -> Reply:
    """`result` in the envelope."""
    return Reply(content=msgspec.json.encode(wrapped(result)))
