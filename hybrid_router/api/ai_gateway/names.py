"""Which alias answers for a provider's model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hybrid_router.api.generation import Fronts
from hybrid_router.api.workers_ai import names
from hybrid_router.catalogue.workers_ai import Model
from hybrid_router.config.front_schema import FrontGateway
from hybrid_router.core.errors import ModelNotFound

WORKERS_AI = "workers-ai"
COMPAT = "compat"
DYNAMIC = "dynamic"
PROVIDERS = (WORKERS_AI, "openai", "huggingface", "replicate", "anthropic")


class Names:
    """The names of one gateway."""

    def __init__(
        self,
        name: str,
        gateway: FrontGateway,
        fronts: Fronts,
        aliases: Sequence[str],
        models: Mapping[str, Model],
    ) -> None:
        self._name = name
        self._gateway = gateway
        self._dialect = fronts.dialects.workers_ai
        self._aliases = frozenset(aliases)
        self._models = models

    def alias(self, provider: str, model: str) -> str:
        """The gateway's own word for it, then an alias of that very name, then the dialect's.

        Raises:
            ModelNotFound: nobody answers for it; says what to write.
        """
        found = self._found(provider, model)
        if found is None:
            place, shown = f"gateways.{self._name}.providers.{provider}", model[:128]
            raise ModelNotFound(
                f"no alias answers for {shown!r} of {provider}: name one in {place} of router.yaml, "
                f"or call an alias {provider}/{shown}",
                param="model",
            )
        return found

    def _found(self, provider: str, model: str) -> str | None:
        patterns = self._gateway.providers.get(provider, {})  # type: ignore[call-overload]
        if (own := names.named_by(patterns, model, self._models)) is not None:
            return own
        if provider == COMPAT:
            return self._of_compat(model)
        for name in (f"{provider}/{model}", model):
            if name in self._aliases:
                return name
        return self._of_workers_ai(model) if provider == WORKERS_AI else None

    def _of_compat(self, model: str) -> str | None:
        """`provider/model`, `dynamic/route`, or an alias."""
        provider, _, rest = model.partition("/")
        if provider in PROVIDERS and rest:
            return self._found(provider, rest)
        if provider == DYNAMIC and rest in self._aliases:
            return rest
        return model if model in self._aliases else None

    def _of_workers_ai(self, model: str) -> str | None:
        try:
            return names.alias_of(model, self._aliases, self._dialect, self._models)
        except ModelNotFound:
            return None


def listing(aliases: Iterable[str], since_s: int, owner: str) -> dict[str, Any]:
    """What may be asked, as `compat/models` tells it."""
    usual = {"object": "model", "created_at": since_s, "cost_in": 0, "cost_out": 0, "owned_by": owner}
    return {"object": "list", "data": [{"id": name, **usual} for name in aliases]}
