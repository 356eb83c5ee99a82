"""Where clouds are called: on this machine or elsewhere, and whether a token may be sent there."""

from __future__ import annotations

from urllib.parse import urlsplit

from hybrid_router.config.listen import is_loopback
from hybrid_router.config.problems import KeyPath, Problems


def is_here(url: str) -> bool:
    """Whether an http(s) address is one that only this machine can reach."""
    return is_loopback(urlsplit(url).hostname or "")


def check_encrypted(url: str, path: KeyPath, problems: Problems) -> None:
    """Note an address at which a token could be read on its way."""
    if urlsplit(url).scheme == "http" and not is_here(url):
        problems.add(path, "the token would travel unencrypted: use https")
