"""Client keys: who is calling.  Only hashes are held; every key is compared, in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from multidict import CIMultiDictProxy

from hybrid_router.config.schema import Key

_GATEWAYS = "cf-aig-authorization"
_USUAL = ("authorization", "x-api-key", "api-key")
_BEARERS = frozenset({_GATEWAYS, "authorization"})


class Keyring:
    """The keys of router.yaml."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._digests = tuple((bytes.fromhex(key.sha256), key.name) for key in keys)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def principal(self, headers: CIMultiDictProxy[str], *, gateway: bool = False) -> str | None:
        """Whose key the request carries; None if it carries none of ours, or an unclear one.

        Args:
            gateway: a key in `cf-aig-authorization` comes first: then the others are those of providers.
        """
        presented = _presented(headers, (_GATEWAYS, *_USUAL) if gateway else _USUAL)
        if presented is None:
            return None
        digest = hashlib.sha256(presented.encode("utf-8", "surrogateescape")).digest()
        found = None
        for known, name in self._digests:  # no early end: how long it takes tells nothing
            if hmac.compare_digest(known, digest):
                found = name
        return found


def _presented(headers: CIMultiDictProxy[str], names: Iterable[str]) -> str | None:
    """The one key that a request carries: the first of these headers decides if it is there at all."""
    for name in names:
        values = headers.getall(name, ())
        if values:
            return _bare(name, values[0]) if len(values) == 1 else None
    return None


def _bare(name: str, value: str) -> str | None:
    """The key itself."""
    if name not in _BEARERS:
        return value
    scheme, _, token = value.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
