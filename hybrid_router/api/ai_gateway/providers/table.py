"""Provider → its wire form."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hybrid_router.api.ai_gateway.asked import Provider
from hybrid_router.api.ai_gateway.names import COMPAT, WORKERS_AI
from hybrid_router.api.ai_gateway.providers.anthropic import Anthropic
from hybrid_router.api.ai_gateway.providers.compat import Compat
from hybrid_router.api.ai_gateway.providers.huggingface import HuggingFace
from hybrid_router.api.ai_gateway.providers.openai import OpenAI
from hybrid_router.api.ai_gateway.providers.replicate import Replicate
from hybrid_router.api.ai_gateway.providers.workers_ai import WorkersAI

PROVIDERS: Mapping[str, Provider] = MappingProxyType({
    WORKERS_AI: WorkersAI(),
    "openai": OpenAI(),
    "huggingface": HuggingFace(),
    "replicate": Replicate(),
    "anthropic": Anthropic(),
    COMPAT: Compat(),
})  # fmt: skip
