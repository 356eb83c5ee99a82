"""Client keys: who is calling.  Only hashes are held; every key is compared, in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from multidict import CIMultiDictProxy

from hybrid_router.config.schema import Key


class Keyring:
    """The keys of router.yaml."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._digests = tuple((bytes.fromhex(key.sha256), key.name) for key in keys)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def principal(self, headers: CIMultiDictProxy[str]) -> str | None:
        """Whose key the request carries; None if it carries none of ours, or an unclear one."""
        presented = _presented(headers)
        if presented is None:
            return None
        digest = hashlib.sha256(presented.encode("utf-8", "surrogateescape")).digest()
        found = None
        for known, name in self._digests:  # no early end: how long it takes tells nothing
            if hmac.compare_digest(known, digest):
                found = name
        return found


def _presented(headers: CIMultiDictProxy[str]) -> str | None:
    """The one key that a request carries.  `Authorization` decides if it is there at all."""
    authorization = headers.getall("Authorization", ())
    if authorization:
        scheme, _, token = authorization[0].partition(" ")
        return token.strip() if len(authorization) == 1 and scheme.lower() == "bearer" else None
    for name in ("x-api-key", "api-key"):
        values = headers.getall(name, ())
        if values:
            return values[0] if len(values) == 1 else None
    return None
