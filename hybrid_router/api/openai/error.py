"""Errors as OpenAI writes them."""

from __future__ import annotations

import math

import msgspec

from hybrid_router.core.errors import BackendMisconfigured, QuotaExhausted, RouterError


def document(error: RouterError) -> bytes:
    """The body of a failed reply: all four keys, `param` and `code` maybe null."""
    return msgspec.json.encode(
        {
            "error": {
                "message": error.message,
                "type": error.kind,
                "param": error.param,
                "code": error.code,
            }
        }
    )


def in_band(error: RouterError) -> bytes:
    """The last event of a stream that broke.  No `[DONE]` follows."""
    return b"data: " + document(error) + b"\n\n"


def headers(error: RouterError) -> dict[str, str]:
    """When and whether to ask again.

    The official clients read `retry-after-ms`, then `retry-after`, and retry 408, 409, 429 and 5xx by
    themselves unless `x-should-retry` says no.
    """
    out = {}
    if error.retry_after_s is not None and math.isfinite(error.retry_after_s):
        wait_s = max(0.0, error.retry_after_s)
        out["retry-after"] = str(max(1, math.ceil(wait_s)))
        out["retry-after-ms"] = str(max(1, math.ceil(wait_s * 1000)))
    if isinstance(error, QuotaExhausted | BackendMisconfigured):
        out["x-should-retry"] = "false"
    return out
