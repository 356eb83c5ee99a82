"""Where a gateway's providers are: Workers AI is the emulator itself, others are where settings say."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import quote

import msgspec

from hybrid_router.api.ai_gateway.names import COMPAT, WORKERS_AI
from hybrid_router.emulator.gateway.refused import GatewayRefusal
from hybrid_router.gateway.steps import GatewayStep

_KNOWN = frozenset({
    "openai", "anthropic", "google-ai-studio", "google-vertex-ai", "workers-ai", "azure-openai", "groq",
    "grok", "aws-bedrock", "mistral", "cohere", "perplexity-ai", "deepseek", "cerebras", "openrouter",
    "huggingface", "replicate", "fal", "ideogram", "cartesia", "deepgram", "elevenlabs", "baseten",
    "parallel", "fireworks",
    "adobe-firefly", "compat",
})  # fmt: skip


class Target:
    """Where a step goes, and what it says there."""

    def __init__(self, provider: str, url: str, query: Any) -> None:
        self.provider = provider
        self.url = url
        self.query = query

    @cached_property
    def body(self) -> bytes:
        """The query as it is sent, at each try the same, and noted."""
        return msgspec.json.encode(self.query)

    @property
    def model(self) -> str:
        """The model that is asked, as far as the request tells."""
        if isinstance(self.query, dict) and isinstance(model := self.query.get("model"), str):
            return model
        return self.url.partition("/ai/run/")[2].replace("%40", "@")


class Providers:
    """Provider and endpoint → address."""

    def __init__(self, workers_ai_url: str, upstreams: Mapping[str, str]) -> None:
        """Args: workers_ai_url: an account's `…/ai`.  upstreams: provider → base of its API."""
        self._workers_ai_url = workers_ai_url
        self._upstreams = upstreams

    def target(self, step: GatewayStep) -> Target:
        """Where a step goes.

        Raises:
            GatewayRefusal: 2008, nobody has such a provider; 2005, it is not played here.
        """
        if step.provider == COMPAT:
            return self._compat(step)
        if step.provider == WORKERS_AI:
            return Target(WORKERS_AI, self._workers_ai(step.endpoint), step.query)
        if step.provider not in _KNOWN:
            raise GatewayRefusal(2008)
        if (base := self._upstreams.get(step.provider)) is None:
            raise GatewayRefusal(2005, f"{step.provider} is not played by this emulator")
        base = base.rstrip("/")
        endpoint = step.endpoint.removeprefix("v1/") if base.endswith("/v1") else step.endpoint
        return Target(step.provider, f"{base}/{endpoint}", step.query)

    def _workers_ai(self, endpoint: str) -> str:
        if endpoint.startswith("v1/"):
            return f"{self._workers_ai_url}/{endpoint}"
        return f"{self._workers_ai_url}/run/{quote(endpoint.removeprefix('run/'), safe='/@')}"

    def _compat(self, step: GatewayStep) -> Target:
        """`provider/model` in OpenAI's form."""
        asked = step.query if isinstance(step.query, dict) else {}
        provider, _, model = str(asked.get("model", "")).partition("/")
        if provider not in _KNOWN or not model or step.endpoint.removeprefix("v1/") != "chat/completions":
            raise GatewayRefusal(2008)
        step = GatewayStep(provider=provider, endpoint="v1/chat/completions", query={**asked, "model": model})
        return self.target(step)
