"""Anthropic: `v1/messages`."""

from __future__ import annotations

from typing import Unpack

from hybrid_router.api.ai_gateway.asked import Asked, Given, written
from hybrid_router.api.ai_gateway.providers import anthropic_answer, anthropic_request
from hybrid_router.api.openai import chat_request
from hybrid_router.api.openai.sender import Sender
from hybrid_router.core.errors import NotFound, RouterError


class Anthropic:
    """Messages, plain and streamed."""

    def asked(self, given: Given, **sender: Unpack[Sender]) -> Asked:
        """See `asked.Provider`."""
        if given.endpoint not in ("v1/messages", "messages"):
            raise NotFound("of Anthropic's API v1/messages is answered here")
        body = anthropic_request.chat(given.document)
        call = chat_request.decode(written(body), **sender).call
        return Asked(
            call=call,
            document=lambda events: anthropic_answer.document(call, events),
            chunks=anthropic_answer.MessageChunks(call) if call.stream else None,
            in_band=anthropic_answer.in_band,
        )

    def failure(self, error: RouterError) -> bytes:
        """See `asked.Provider`."""
        return anthropic_answer.failure(error)
