"""What cannot be meant in a backend's `gateway`.  Limits: AI Gateway's documentation."""

from __future__ import annotations

from hybrid_router.config.addresses import check_encrypted
from hybrid_router.config.cloud_schema import Gateway
from hybrid_router.config.problems import KeyPath, Problems

_MOST_ENTRIES = 5
_LONGEST_DELAY_S = 5.0


def check_gateway(gateway: Gateway, path: KeyPath, problems: Problems) -> None:
    """Note what the gateway would drop, refuse or take for something else."""
    if len(gateway.metadata) > _MOST_ENTRIES:
        problems.add((*path, "metadata"), f"the gateway keeps {_MOST_ENTRIES} entries and drops the rest")
    for key in gateway.metadata:
        if key.startswith("cf."):
            problems.add((*path, "metadata", key), "names that begin with cf. are Cloudflare's", at_key=True)
    if gateway.retry_delay is not None and gateway.retry_delay > _LONGEST_DELAY_S:
        problems.add((*path, "retry_delay"), "the gateway waits 5s at most")
    check_encrypted(gateway.base_url, (*path, "base_url"), problems)
