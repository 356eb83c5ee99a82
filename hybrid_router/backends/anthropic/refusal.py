"""Name a failed reply of Anthropic's.  The error's type decides; the status if there is none.

Source: the API's page on errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
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
    ContextOverflow,
    PrefillRefused,
    RouterError,
)

TEXT_CHARS = 500
_TOO_LONG = re.compile(
    r"prompt is too long|context (window|limit|length)|too many (input )?tokens", re.IGNORECASE
)
_NO_CREDIT = re.compile(r"credit balance|billing", re.IGNORECASE)
_PREFILL = re.compile(r"prefill|final assistant|end with a user message", re.IGNORECASE)


class Verdict(Struct, frozen=True):
    """What an error means.  `quoted`: the cloud's own words help the client, so they are added."""

    kind: type[RouterError]
    message: str
    quoted: bool = False
    code: str | None = None


_REFUSED = Verdict(CallRefused, "Anthropic does not accept this call", quoted=True)
_OVERFLOW = Verdict(ContextOverflow, "prompt and answer do not fit into the model's context", quoted=True)
_NO_PREFILL = Verdict(PrefillRefused, "this model of Anthropic's does not go on from an answer's beginning")
_KEY = Verdict(AccountRefused, "Anthropic does not accept the API key: check its source")
_CREDIT = Verdict(AccountRefused, "the Anthropic account has no credit: add some or name another backend")
_DENIED = Verdict(
    BackendMisconfigured, "the Anthropic key may not do this: check its permissions and the model"
)
_NO_MODEL = Verdict(BackendMisconfigured, "Anthropic has no such model: check its name in router.yaml")
_TOO_LARGE = Verdict(CallRefused, "the call is too large for Anthropic: send less", code="request_too_large")
_RATE = Verdict(BackendBusy, "Anthropic's rate limit is reached")
_OVERLOADED = Verdict(BackendBusy, "Anthropic is overloaded right now")
_SLOW = Verdict(BackendTimeout, "Anthropic gave up on the call: it took too long there")
_DOWN = Verdict(BackendUnavailable, "Anthropic is not available right now")
_FAILED = Verdict(BackendError, "Anthropic failed to answer")
_REDIRECT = Verdict(
    AccountRefused, "Anthropic's address answers with a redirect, which is not followed: check base_url"
)
_BY_TYPE: Mapping[str, Verdict] = {
    "invalid_request_error": _REFUSED,
    "authentication_error": _KEY,
    "billing_error": _CREDIT,
    "permission_error": _DENIED,
    "not_found_error": _NO_MODEL,
    "request_too_large": _TOO_LARGE,
    "rate_limit_error": _RATE,
    "overloaded_error": _OVERLOADED,
    "timeout_error": _SLOW,
    "api_error": _FAILED,
}
_BY_STATUS: Mapping[int, Verdict] = {
    400: _REFUSED,
    401: _KEY,
    402: _CREDIT,
    403: _DENIED,
    404: _NO_MODEL,
    405: _NO_MODEL,
    413: _TOO_LARGE,
    422: _REFUSED,
    429: _RATE,
    502: _DOWN,
    503: _DOWN,
    504: _SLOW,
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
    verdict = _verdict(status, kind, text)
    message = f"{verdict.message}: {text[:TEXT_CHARS]}" if verdict.quoted and text else verdict.message
    told = f"status {status}, {kind}" if kind in _BY_TYPE else f"status {status}"
    return verdict.kind(
        message,
        detail=(f"{told}: {text}" if text else told)[:DETAIL_CHARS],
        retry_after_s=retry_after_s(headers.get("Retry-After"), now),
        code=verdict.code,
    )


def _verdict(status: int, kind: str, text: str) -> Verdict:
    if 300 <= status < 400:  # noqa: PLR2004
        return _REDIRECT
    known = _BY_STATUS.get(status) or (_DOWN if 520 <= status < 530 else _FAILED)  # noqa: PLR2004
    verdict = _BY_TYPE.get(kind, known)
    if verdict is _FAILED:
        return known
    if verdict is not _REFUSED:
        return verdict
    for words, special in ((_TOO_LONG, _OVERFLOW), (_NO_CREDIT, _CREDIT), (_PREFILL, _NO_PREFILL)):
        if words.search(text):
            return special
    return verdict


def _said(body: bytes) -> tuple[str, str]:
    """Type and words of an error; a proxy's page has words alone."""
    try:
        document: Any = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return "", body[:TEXT_CHARS].decode("utf-8", "replace")
    error = document.get("error") if isinstance(document, dict) else None
    if not isinstance(error, dict):
        return "", "" if error is None else str(error)
    return str(error.get("type") or ""), str(error.get("message") or "")
