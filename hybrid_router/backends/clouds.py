"""The adapter of each kind of cloud, made from its part of router.yaml, and imported where there is one."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hybrid_router.backends.declared import Declared
from hybrid_router.backends.workers_ai import WorkersAI
from hybrid_router.backends.workers_ai.minutes import Minutes
from hybrid_router.catalogue import workers_ai as catalogue
from hybrid_router.config.backend_schema import SecretSource
from hybrid_router.config.cloud_schema import (
    AnthropicBackend,
    CloudBackend,
    HuggingFaceBackend,
    OpenAIBackend,
    ReplicateBackend,
    WorkersAIBackend,
)
from hybrid_router.core.secret import Secret

_NOTHING = Secret("")


def cloud(
    name: str,
    config: CloudBackend,
    secrets: Mapping[str, Secret],
    known: Mapping[str, catalogue.Model] = MappingProxyType({}),
    minutes: Minutes | None = None,
) -> WorkersAI | Declared:
    """A backend that is not off.

    Args:
        name: the backend's, for messages.
        secrets: by their key in `config`; one whose source is left out is not there.
        known: Workers AI's models.
        minutes: what its accounts may be asked in a minute; None: nobody counts.
    """
    token = secrets.get("token", _NOTHING)
    match config:
        case WorkersAIBackend():
            account = secrets.get("account_id") or config.account_id
            if isinstance(account, SecretSource):
                raise TypeError(f"{name} has no account and is not off")
            return WorkersAI(
                name,
                config,
                account,
                token,
                known,
                gateway_token=secrets.get("gateway.token"),
                minutes=minutes,
            )
        case OpenAIBackend():
            from hybrid_router.backends.openai import OpenAI  # noqa: PLC0415

            return OpenAI(name, config, secrets.get("token"))
        case AnthropicBackend():
            from hybrid_router.backends.anthropic import Anthropic  # noqa: PLC0415

            return Anthropic(name, config, token)
        case HuggingFaceBackend():
            from hybrid_router.backends.huggingface import HuggingFace  # noqa: PLC0415

            return HuggingFace(name, config, token)
        case ReplicateBackend():
            from hybrid_router.backends.replicate import Replicate  # noqa: PLC0415

            return Replicate(name, config, token)


def idle_cloud(name: str, config: CloudBackend, known: Mapping[str, catalogue.Model]) -> WorkersAI | Declared:
    """A backend that only tells what it could do: it has no secrets and is never run."""
    return cloud(name, config, {"account_id": _NOTHING}, known)
