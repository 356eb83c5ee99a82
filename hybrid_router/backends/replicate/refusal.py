"""Name a failed reply of Replicate's, or a prediction that failed.

Source: the HTTP API's reference; errors are problem details (RFC 9457).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime

from hybrid_router.backends.http import DETAIL_CHARS, retry_after_s
from hybrid_router.backends.refusal import (
    DOWN,
    REFUSED,
    SLOW,
    TOO_LARGE,
    Verdict,
    by_status,
    document,
    named,
)
from hybrid_router.core.errors import (
    AccountRefused,
    BackendBusy,
    BackendError,
    BackendMisconfigured,
    BackendUnavailable,
    ContentRefused,
    NotAble,
    RouterError,
)

LABEL = "Replicate"
_CONTENT = re.compile(r"nsfw|flagged as sensitive|safety|content policy", re.IGNORECASE)
_INTERRUPTED = re.compile(r"interrupted|please retry|\(code: PA\)", re.IGNORECASE)
_VERSION = re.compile(r"version", re.IGNORECASE)

_INPUT = Verdict(NotAble, "this model of Replicate's does not take the call's inputs", quoted=True)
_DENIED = Verdict(
    BackendMisconfigured, "the Replicate token may not do this: check its account and the model"
)
_NO_MODEL = Verdict(
    BackendMisconfigured, "Replicate has no such model or version: check its name in router.yaml"
)
_BY_STATUS: Mapping[int, Verdict] = {
    400: REFUSED,
    401: Verdict(AccountRefused, "Replicate does not accept the API token: check its source"),
    402: Verdict(AccountRefused, "the Replicate account has no credit: add some or name another backend"),
    403: _DENIED,
    404: _NO_MODEL,
    405: _NO_MODEL,
    413: TOO_LARGE,
    422: _INPUT,
    429: Verdict(BackendBusy, "Replicate's rate limit is reached"),
    502: DOWN,
    503: DOWN,
    504: SLOW,
}


def refusal(
    status: int, headers: Mapping[str, str], body: bytes, *, now: datetime, redact: Callable[[str], str] = str
) -> RouterError:
    """The error that a failed reply stands for.

    Args:
        now: aware; for Retry-After dates.
        redact: takes secrets out of the cloud's words.
    """
    title, words = _said(body)
    title, words = redact(title), redact(words)
    verdict = by_status(status, _BY_STATUS)
    if verdict is _INPUT and _VERSION.search(title):
        verdict = _NO_MODEL
    return named(
        LABEL,
        verdict,
        words,
        told=f"status {status}: {title}" if title else f"status {status}",
        retry_after_s=retry_after_s(headers.get("Retry-After"), now),
    )


def failure(status: str, error: object, redact: Callable[[str], str] = str) -> RouterError:
    """What a prediction that has ended without an answer stands for."""
    words = redact(str(error or ""))
    detail = f"{status}: {words}"[:DETAIL_CHARS]
    if status != "failed":
        return BackendError("Replicate gave the prediction up", detail=detail)
    if _CONTENT.search(words):
        return ContentRefused("the model's content rules refused this call", detail=detail)
    if _INTERRUPTED.search(words):
        return BackendUnavailable("Replicate interrupted the prediction", detail=detail)
    return BackendError("the model on Replicate failed", detail=detail)


def _said(body: bytes) -> tuple[str, str]:
    """Title and detail of a problem; a proxy's page has words alone."""
    problem = document(body)
    if isinstance(problem, str):
        return "", problem
    if not isinstance(problem, dict):
        return "", ""
    return str(problem.get("title") or ""), str(problem.get("detail") or "").strip()
