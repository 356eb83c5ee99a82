"""`timings`, as llama-server tells them: how long prompt and answer took, where the engine measured it."""

from __future__ import annotations

from typing import Any

from hybrid_router.core.event import Usage


def fields(usage: Usage) -> dict[str, Any] | None:
    """The object; None if nobody measured.  A rate of nothing is null."""
    if usage.prefill_s is None and usage.decode_s is None:
        return None
    told: dict[str, Any] = {"cached_n": usage.cached_tokens, "cache_n": usage.cached_tokens}
    told |= _of("prompt", usage.prompt_tokens - usage.cached_tokens, usage.prefill_s)
    told |= _of("predicted", usage.completion_tokens, usage.decode_s)
    if usage.drafted_tokens:
        told |= {"draft_n": usage.drafted_tokens, "draft_n_accepted": usage.accepted_tokens}
    return told


def _of(part: str, count: int, duration_s: float | None) -> dict[str, Any]:
    known = duration_s is not None and duration_s > 0 and count > 0
    return {
        f"{part}_n": count,
        f"{part}_ms": None if duration_s is None else duration_s * 1000,
        f"{part}_per_token_ms": duration_s * 1000 / count if known and duration_s else None,
        f"{part}_per_second": count / duration_s if known and duration_s else None,
    }
