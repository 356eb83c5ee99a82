"""Name a failed reply of whatever speaks OpenAI's API.  The code in the body decides, then the status.

A 429 may mean a rate, or money that is gone: the second is not mended by waiting a second.
Sources: OpenAI's error codes page; llama-server's, vLLM's, Ollama's and our own replies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct

from hybrid_router.backends.http import DETAIL_CHARS, retry_after_s
from hybrid_router.core.errors import (
    AccountRefused,
    BackendBusy,
    BackendError,
    BackendMisconfigured,
    BackendTimeout,
    BackendUnavailable,
    CallRefused,
    ContentRefused,
    ContextOverflow,
    QuotaExhausted,
    RouterError,
    RouterLoop,
)

BILLING_WAIT_S = 600.0  # money comes back when somebody pays: midnight has nothing to do with it
TEXT_CHARS = 500
_TOO_LONG = re.compile(
    r"context (length|window|size)|maximum context|max_model_len|too many tokens"
    r"|tokens? .{0,60}exceed|prompt is too long",
    re.IGNORECASE,
)
_STATUSES = range(400, 600)
_REDIRECTS = range(300, 400)
_ORIGIN_DOWN = range(520, 530)


class Verdict(Struct, frozen=True):
    """What a reply means.  `quoted`: the server's own words help the client, so they are added."""

    kind: type[RouterError]
    message: str
    quoted: bool = False
    code: str | None = None


_REFUSED = Verdict(CallRefused, "{label} does not accept this call", quoted=True)
_TOO_LARGE = Verdict(CallRefused, "the call is too large for {label}: send less", code="request_too_large")
_OVERFLOW = Verdict(ContextOverflow, "prompt and answer do not fit into the model's context", quoted=True)
_CONTENT = Verdict(ContentRefused, "{label}'s content rules refused this call")
_SLOW = Verdict(BackendTimeout, "{label} gave up on the call: it took too long there")
_SPENT = Verdict(QuotaExhausted, "the account at {label} has no credit: see to its billing")
_BUSY = Verdict(BackendBusy, "{label} asks us to wait")
_DOWN = Verdict(BackendUnavailable, "{label} is not available right now")
_LOADING = Verdict(BackendUnavailable, "{label} is still loading the model")
_FAILED = Verdict(BackendError, "{label} failed to answer")
_TOKEN = Verdict(AccountRefused, "{label} does not accept the token: check its source in router.yaml")
_MODEL = Verdict(BackendMisconfigured, "{label} has no such model or address: check both in router.yaml")
_FORBIDDEN = Verdict(AccountRefused, "{label} refuses this account: check what its token may do")
_REDIRECT = Verdict(AccountRefused, "{label} answers with a redirect, which is not followed: check base_url")
_NOT_OPENAI = Verdict(AccountRefused, "{label} does not speak OpenAI's API here: check base_url")

_BY_CODE: Mapping[str, Verdict] = MappingProxyType({
    "insufficient_quota": _SPENT,
    "billing_hard_limit_reached": _SPENT,
    "billing_not_active": _SPENT,
    "rate_limit_exceeded": _BUSY,
    "requests": _BUSY,
    "tokens": _BUSY,
    "context_length_exceeded": _OVERFLOW,
    "string_above_max_length": _OVERFLOW,
    "exceed_context_size_error": _OVERFLOW,
    "content_filter": _CONTENT,
    "content_policy_violation": _CONTENT,
    "moderation_blocked": _CONTENT,
    "invalid_api_key": _TOKEN,
    "invalid_organization": _TOKEN,
    "account_deactivated": _FORBIDDEN,
    "unsupported_country_region_territory": _FORBIDDEN,
    "model_not_found": _MODEL,
    "unavailable_error": _LOADING,
    "engine_overloaded": _DOWN,
    "overloaded_error": _DOWN,
    # another router's own
    RouterLoop.code: Verdict(
        RouterLoop,
        "{label} leads back to a router that the call has passed: take one of the backends that name each "
        "other out",
    ),
    "refused_by_policy": Verdict(BackendError, "a rule of the router behind {label} refuses the call"),
    "no_backend_available": _DOWN,
    "backend_unavailable": _DOWN,
    "backend_timeout": _SLOW,
    "request_too_large": _TOO_LARGE,
})  # fmt: skip
_BY_STATUS: Mapping[int, Verdict] = MappingProxyType({
    400: _REFUSED,
    401: _TOKEN,
    402: _SPENT,
    403: _FORBIDDEN,
    404: _MODEL,
    405: _NOT_OPENAI,
    408: _SLOW,
    413: _TOO_LARGE,
    415: _REFUSED,
    422: _REFUSED,
    429: _BUSY,
    502: _DOWN,
    503: _DOWN,
    504: _SLOW,
    529: _DOWN,
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
    text = redact(said.text)
    verdict = _verdict(said.status or status, said)
    message = verdict.message.format(label=label)
    return verdict.kind(
        f"{message}: {text[:TEXT_CHARS]}" if verdict.quoted and text else message,
        detail=_detail(status, said, text, redact),
        retry_after_s=_wait_s(verdict, headers, said, now),
        code=verdict.code,
    )


def _verdict(status: int, said: Said) -> Verdict:
    """What a reply means.  Following a redirect would carry the token elsewhere."""
    if status in _REDIRECTS:
        return _REDIRECT
    known = next((found for code in said.codes if (found := _BY_CODE.get(code))), None)
    verdict = known or _BY_STATUS.get(status) or (_DOWN if status in _ORIGIN_DOWN else _FAILED)
    return _OVERFLOW if verdict is _REFUSED and _TOO_LONG.search(said.text) else verdict


def _detail(status: int, said: Said, text: str, redact: Callable[[str], str]) -> str:
    """What is known, for the log."""
    code = f", code {redact(said.codes[0])[:64]}" if said.codes else ""
    told = f"status {status}{code}"
    return (f"{told}: {text}" if text else told)[:DETAIL_CHARS]


def _wait_s(verdict: Verdict, headers: Mapping[str, str], said: Said, now: datetime) -> float | None:
    """Seconds until asking again makes sense."""
    told_s = retry_after_s(headers.get("Retry-After"), now)
    if told_s is None:
        told_s = said.wait_s
    return BILLING_WAIT_S if told_s is None and verdict is _SPENT else told_s


def _said(body: bytes) -> Said:
    """Words and codes: OpenAI's `error` object, a bare text, a list, or FastAPI's `detail`."""
    try:
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return Said(text=body[:TEXT_CHARS].decode("utf-8", "replace"))
    if not isinstance(document, dict):
        return Said()
    error = document.get("error") or document.get("detail") or document.get("message") or document
    told = error if isinstance(error, dict) else {}
    codes = [told.get("code"), told.get("type"), document.get("code"), document.get("error_type")]
    wait_s = document.get("estimated_time")
    return Said(
        text=_text(told.get("message") if told else error),
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
