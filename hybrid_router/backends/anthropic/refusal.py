"""Name a failed reply of Anthropic's.  The error's type decides; the status if there is none.

Source: the API's page on errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime

from hybrid_router.backends.http import retry_after_s
from hybrid_router.backends.refusal import (
    DOWN,
    FAILED,
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
    BackendMisconfigured,
    PrefillRefused,
    RouterError,
)

_NO_CREDIT = re.compile(r"credit balance|billing", re.IGNORECASE)
_PREFILL = re.compile(r"prefill|final assistant|end with a user message", re.IGNORECASE)
_NO_PREFILL = Verdict(PrefillRefused, "this model of Anthropic's does not go on from an answer's beginning")
_KEY = Verdict(AccountRefused, "Anthropic does not accept the API key: check its source")
_CREDIT = Verdict(AccountRefused, "the Anthropic account has no credit: add some or name another backend")
_DENIED = Verdict(
    BackendMisconfigured, "the Anthropic key may not do this: check its permissions and the model"
)
_NO_MODEL = Verdict(BackendMisconfigured, "Anthropic has no such model: check its name in router.yaml")
_RATE = Verdict(BackendBusy, "Anthropic's rate limit is reached")
_OVERLOADED = Verdict(BackendBusy, "Anthropic is overloaded right now")
_BY_TYPE: Mapping[str, Verdict] = {
    "invalid_request_error": REFUSED,
    "authentication_error": _KEY,
    "billing_error": _CREDIT,
    "permission_error": _DENIED,
    "not_found_error": _NO_MODEL,
    "request_too_large": TOO_LARGE,
    "rate_limit_error": _RATE,
    "overloaded_error": _OVERLOADED,
    "timeout_error": SLOW,
    "api_error": FAILED,
}
_BY_STATUS: Mapping[int, Verdict] = {
    400: REFUSED,
    401: _KEY,
    402: _CREDIT,
    403: _DENIED,
    404: _NO_MODEL,
    405: _NO_MODEL,
    413: TOO_LARGE,
    422: REFUSED,
    429: _RATE,
    502: DOWN,
    503: DOWN,
    504: SLOW,
    529: _OVERLOADED,
}


def refusal(
    status: int, headers: Mapping[str, str], body: bytes, *, now: datetime, redact: Callable[[str], str] = str
) -> RouterError:
    """The error that a failed reply, or an error event, stands for.

    Args:
        now: aware; for Retry-After dates.
        redact: takes secrets out of the cloud's words.
    """
    kind, text = _said(body)
    text = redact(text)
    typed = f", {kind}" if kind in _BY_TYPE else ""
    return named(
        "Anthropic",
        _verdict(status, kind, text),
        text,
        told=f"status {status}{typed}",
        retry_after_s=retry_after_s(headers.get("Retry-After"), now),
    )


def _verdict(status: int, kind: str, text: str) -> Verdict:
    """The type decides, where it says more than that something failed; of what is refused, the words."""
    by = by_status(status, _BY_STATUS)
    verdict = by if by is REDIRECT else _BY_TYPE.get(kind, by)
    verdict = unless_too_long(by if verdict is FAILED else verdict, text)
    if verdict is REFUSED and _NO_CREDIT.search(text):
        return _CREDIT
    return _NO_PREFILL if verdict is REFUSED and _PREFILL.search(text) else verdict


def _said(body: bytes) -> tuple[str, str]:
    """Type and words of an error; a proxy's page has words alone."""
    told = document(body)
    if isinstance(told, str):
        return "", told
    error = told.get("error") if isinstance(told, dict) else None
    if not isinstance(error, dict):
        return "", "" if error is None else str(error)
    return str(error.get("type") or ""), str(error.get("message") or "")
