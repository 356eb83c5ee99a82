"""Name a failed reply of Replicate's, or a prediction that failed.

Source: the HTTP API's reference; errors are problem details (RFC 9457).
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
    ContentRefused,
    NotAble,
    RouterError,
)

TEXT_CHARS = 500
_CONTENT = re.compile(r"nsfw|flagged as sensitive|safety|content policy", re.IGNORECASE)
_INTERRUPTED = re.compile(r"interrupted|please retry|\(code: PA\)", re.IGNORECASE)
_VERSION = re.compile(r"version", re.IGNORECASE)


class Verdict(Struct, frozen=True):
    """What an error means.  `quoted`: the cloud's own words help the client, so they are added."""

    kind: type[RouterError]
    message: str
    quoted: bool = False
    code: str | None = None


_REFUSED = Verdict(CallRefused, "Replicate does not accept this call", quoted=True)
_INPUT = Verdict(NotAble, "this model of Replicate's does not take the call's inputs", quoted=True)
_DENIED = Verdict(
    BackendMisconfigured, "the Replicate token may not do this: check its account and the model"
)
_NO_MODEL = Verdict(
    BackendMisconfigured, "Replicate has no such model or version: check its name in router.yaml"
)
_DOWN = Verdict(BackendUnavailable, "Replicate is not available right now")
_FAILED = Verdict(BackendError, "Replicate failed to answer")
_REDIRECT = Verdict(
    AccountRefused, "Replicate's address answers with a redirect, which is not followed: check base_url"
)
_BY_STATUS: Mapping[int, Verdict] = {
    400: _REFUSED,
    401: Verdict(AccountRefused, "Replicate does not accept the API token: check its source"),
    402: Verdict(AccountRefused, "the Replicate account has no credit: add some or name another backend"),
    403: _DENIED,
    404: _NO_MODEL,
    405: _NO_MODEL,
    413: Verdict(CallRefused, "the call is too large for Replicate: send less", code="request_too_large"),
    422: _INPUT,
    429: Verdict(BackendBusy, "Replicate's rate limit is reached"),
    502: _DOWN,
    503: _DOWN,
    504: Verdict(BackendTimeout, "Replicate gave up on the call: it took too long there"),
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
    verdict = _verdict(status, title)
    message = f"{verdict.message}: {words[:TEXT_CHARS]}" if verdict.quoted and words else verdict.message
    return verdict.kind(
        message,
        detail=(f"status {status}: {title} {words}" if title or words else f"status {status}")[:DETAIL_CHARS],
        retry_after_s=retry_after_s(headers.get("Retry-After"), now),
        code=verdict.code,
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


def _verdict(status: int, title: str) -> Verdict:
    if 300 <= status < 400:  # noqa: PLR2004
        return _REDIRECT
    verdict = _BY_STATUS.get(status) or (_DOWN if 520 <= status < 530 else _FAILED)  # noqa: PLR2004
    return _NO_MODEL if verdict is _INPUT and _VERSION.search(title) else verdict


def _said(body: bytes) -> tuple[str, str]:
    """Title and detail of a problem; a proxy's page has words alone."""
    try:
        problem: Any = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return "", body[:TEXT_CHARS].decode("utf-8", "replace")
    if not isinstance(problem, dict):
        return "", ""
    return str(problem.get("title") or ""), str(problem.get("detail") or "").strip()
