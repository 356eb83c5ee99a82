"""`compat`: OpenAI's form for every provider; the model is `provider/model`."""

from __future__ import annotations

from typing import Unpack

from hybrid_router.api.ai_gateway.asked import Asked, Given
from hybrid_router.api.ai_gateway.providers.openai import OpenAI
from hybrid_router.api.openai.sender import Sender
from hybrid_router.core.errors import NotFound

_ENDPOINTS = ("chat/completions", "embeddings")


class Compat(OpenAI):
    """The few addresses that every provider's models have in common."""

    def asked(self, given: Given, **sender: Unpack[Sender]) -> Asked:
        """See `asked.Provider`."""
        if given.endpoint.removeprefix("v1/") not in _ENDPOINTS:
            raise NotFound(f"compat has {' and '.join(_ENDPOINTS)}")
        return super().asked(given, **sender)
