"""Which backends are metered, and whose account each of them uses."""

from __future__ import annotations

import hashlib

from msgspec import Struct

from hybrid_router.config import cloud_schema
from hybrid_router.config.cloud_schema import WorkersAIBackend
from hybrid_router.config.schema import Loaded

_KEY_DIGITS = 32


class Metered(Struct, frozen=True, kw_only=True):
    """A backend whose neurons are counted.

    Attributes:
        account: tells accounts apart, and says nothing else about them.
        neurons: what may be used.
        default_max_tokens: tokens of an answer whose client names no limit.
    """

    account: str
    neurons: cloud_schema.Neurons
    default_max_tokens: int


def metered(loaded: Loaded) -> dict[str, Metered]:
    """Every metered backend whose account is known, by name."""
    found = {}
    for name, backend in loaded.config.backends.items():
        if not isinstance(backend, WorkersAIBackend):
            continue
        account = account_id(loaded, name, backend)
        if account is not None:
            found[name] = Metered(
                account=_key(backend.base_url, account),
                neurons=backend.neurons,
                default_max_tokens=backend.default_max_tokens,
            )
    return found


def account_id(loaded: Loaded, name: str, backend: WorkersAIBackend) -> str | None:
    """The account's id; None where it has none here."""
    if isinstance(backend.account_id, str):
        return backend.account_id
    secret = loaded.secrets.get(f"{name}.account_id")
    return None if secret is None else secret.reveal()


def _key(base_url: str, account: str) -> str:
    """An account elsewhere, such as at the emulator, is another one even if its id is the same."""
    told = f"{base_url.rstrip('/')} {account.lower()}".encode()
    return hashlib.sha256(told).hexdigest()[:_KEY_DIGITS]
