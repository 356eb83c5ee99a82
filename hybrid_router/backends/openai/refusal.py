"""Name a failed reply of whatever speaks OpenAI's API.  The code in the body decides, then the status.

A 429 may mean a rate, or money that is gone: the second is not mended by waiting a second.
Sources: OpenAI's error codes page; llama-server's, vLLM's, Ollama's and our own replies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct

from hybrid_router.backends.http import retry_after_s
from hybrid_router.backends.refusal import (
    DOWN,
    OVERFLOW,
    REDIRECT,
    REFUSED,
    SLOW,
    TOO_LARGE,
    Verdict,
    by_status,
    document,
    named,
    unless_too_long,
)
from hybrid_router.core.errors import (
    AccountRefused,
    BackendBusy,
    BackendError,
    BackendMisconfigured,
    BackendUnavailable,
    ContentRefused,
    QuotaExhausted,
    RouterError,
    RouterLoop,
)

BILLING_WAIT_S = 600.0  # money comes back when somebody pays: midnight has nothing to do with it
_STATUSES = range(400, 600)
_CONTENT = Verdict(ContentRefused, "{label}'s content rules refused this call")
_SPENT = Verdict(QuotaExhausted, "the account at {label} has no credit: see to its billing")
_BUSY = Verdict(BackendBusy, "{label} asks us to wait")
_LOADING = Verdict(BackendUnavailable, "{label} is still loading the model")
_TOKEN = Verdict(AccountRefused, "{label} does not accept the token: check its source in router.yaml")
_MODEL = Verdict(BackendMisconfigured, "{label} has no such model or address: check both in router.yaml")
_FORBIDDEN = Verdict(AccountRefused, "{label} refuses this account: check what its token may do")
_NOT_OPENAI = Verdict(AccountRefused, "{label} does not speak OpenAI's API here: check base_url")

_BY_CODE: Mapping[str, Verdict] = MappingProxyType({
    "insufficient_quota": _SPENT,
    "billing_hard_limit_reached": _SPENT,
    "billing_not_active": _SPENT,
    "rate_limit_exceeded": _BUSY,
    "requests": _BUSY,
    "tokens": _BUSY,
    "context_length_exceeded": OVERFLOW,
    "string_above_max_length": OVERFLOW,
    "exceed_context_size_error": OVERFLOW,
    "content_filter": _CONTENT,
    "content_policy_violation": _CONTENT,
    "moderation_blocked": _CONTENT,
    "invalid_api_key": _TOKEN,
    "invalid_organization": _TOKEN,
    "account_deactivated": _FORBIDDEN,
    "unsupported_country_region_territory": _FORBIDDEN,
    "model_not_found": _MODEL,
    "unavailable_error": _LOADING,
    "engine_overloaded": DOWN,
    "overloaded_error": DOWN,
    # another router's own
    RouterLoop.code: Verdict(
        RouterLoop,
        "{label} leads back to a router that the call has passed: take one of the backends that name each "
        "other out",
    ),
    "refused_by_policy": Verdict(BackendError, "a rule of the router behind {label} refuses the call"),
    "no_backend_available": DOWN,
    "backend_unavailable": DOWN,
    "backend_timeout": SLOW,
    "request_too_large": TOO_LARGE,
})  # fmt: skip
_BY_STATUS: Mapping[int, Verdict] = MappingProxyType({
    400: REFUSED,
    401: _TOKEN,
    402: _SPENT,
    403: _FORBIDDEN,
    404: _MODEL,
    405: _NOT_OPENAI,
    408: SLOW,
    413: TOO_LARGE,
    415: REFUSED,
    422: REFUSED,
    429: _BUSY,
    502: DOWN,
    503: DOWN,
    504: SLOW,
    529: DOWN,
})  # fmt: skip


class Said(Struct, frozen=True, kw_only=True):
    """What an error body says.  `status`: an error in band may tell the one it stands for."""

    text: str = ""
    codes: tuple[str, ...] = ()
    status: int | None = None
    wait_s: float | None = None


def refusal(
    label: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: datetime,
    redact: Callable[[str], str],
) -> RouterError:
    """The error that a failed reply, or an error document inside a 200, stands for.

    Args:
        label: the backend's name, for messages.
        now: aware, for Retry-After dates.
        redact: takes secrets out of the server's words.
    """
    said = _said(body)
    verdict = _verdict(said.status or status, said)
    code = f", code {redact(said.codes[0])[:64]}" if said.codes else ""
    return named(
        label,
        verdict,
        redact(said.text),
        told=f"status {status}{code}",
        retry_after_s=_wait_s(verdict, headers, said, now),
    )


def _verdict(status: int, said: Said) -> Verdict:
    """The first code that is known decides, then the status."""
    verdict = by_status(status, _BY_STATUS)
    if verdict is not REDIRECT:
        verdict = next((known for code in said.codes if (known := _BY_CODE.get(code))), verdict)
    return unless_too_long(verdict, said.text)


def _wait_s(verdict: Verdict, headers: Mapping[str, str], said: Said, now: datetime) -> float | None:
    """Seconds until asking again makes sense."""
    told_s = retry_after_s(headers.get("Retry-After"), now)
    if told_s is None:
        told_s = said.wait_s
    return BILLING_WAIT_S if told_s is None and verdict is _SPENT else told_s


def _said(body: bytes) -> Said:
    """Words and codes: OpenAI's `error` object, a bare text, a list, or FastAPI's `detail`."""
    told = document(body)
    if isinstance(told, str):
        return Said(text=told)
    if not isinstance(told, dict):
        return Said()
    error = told.get("error") or told.get("detail") or told.get("message") or told
    inner = error if isinstance(error, dict) else {}
    codes = [inner.get("code"), inner.get("type"), told.get("code"), told.get("error_type")]
    wait_s = told.get("estimated_time")
    return Said(
        text=_text(inner.get("message") if inner else error),
        codes=tuple(code for code in codes if isinstance(code, str)),
        status=next((code for code in codes if isinstance(code, int) and code in _STATUSES), None),
        wait_s=float(wait_s) if isinstance(wait_s, int | float) and wait_s >= 0 else None,
    )


def _text(words: Any) -> str:
    if isinstance(words, list):
        return "; ".join(_text(word) for word in words)
    if isinstance(words, str):
        return words
    return "" if words is None else msgspec.json.encode(words).decode()
