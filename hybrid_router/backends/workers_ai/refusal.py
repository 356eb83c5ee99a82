"""Name a failed reply.  The code in the body decides; the status if there is none, or one that says nothing.

Several 429s look alike and need different answers: a minute's rate (3021), no capacity (3040), the day's
allowance (3036, 4006).  Sources: Workers AI and AI Gateway error pages, and captured replies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from hybrid_router.backends.http import DETAIL_CHARS, retry_after_s
from hybrid_router.catalogue.workers_ai import Model
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
)


class ModelGone(BackendMisconfigured):
    """There is no such model, or no longer."""


RATE_WINDOW_S = 60.0
TEXT_CHARS = 500
_TOO_LONG = re.compile(
    r"context (length|window)|maximum context|max_model_len|too many tokens"
    r"|tokens? .{0,60}exceed|prompt is too long",
    re.IGNORECASE,
)
_LEADING_CODE = re.compile(r"\s*(?:AiError:\s*)*(\d{4,5}):")
_REQUEST_ID = re.compile(r"\s*\([0-9a-f-]{8,36}\)\s*\Z")


class Verdict(Struct, frozen=True):
    """What a code means.  `quoted`: upstream's own words help the client, so they are added."""

    kind: type[RouterError]
    message: str
    quoted: bool = False
    code: str | None = None


def _misconfigured(message: str) -> Verdict:
    return Verdict(BackendMisconfigured, message)


def _account_refused(message: str) -> Verdict:
    return Verdict(AccountRefused, message)


_REFUSED = Verdict(CallRefused, "Workers AI does not accept this call", quoted=True)
_TOO_LARGE = Verdict(CallRefused, "the call is too large for Workers AI: send less", code="request_too_large")
_OVERFLOW = Verdict(ContextOverflow, "prompt and answer do not fit into the model's context", quoted=True)
_CONTENT = Verdict(ContentRefused, "Cloudflare's content rules refused this call")
_SLOW = Verdict(BackendTimeout, "Workers AI gave up on the call: it took too long there")
_SPENT = Verdict(QuotaExhausted, "today's Workers AI allowance is spent: it is renewed at 00:00 UTC")
_NO_CAPACITY = Verdict(BackendBusy, "Workers AI has no capacity for this model right now")
_RATE = Verdict(BackendBusy, "Workers AI's rate limit for this minute is reached")
_DOWN = Verdict(BackendUnavailable, "Workers AI is not available right now")
_FAILED = Verdict(BackendError, "Workers AI failed to answer")
_TOKEN = _account_refused(
    "Workers AI does not accept the API token: make one with the permission Workers AI Read for this account"
)
_ACCOUNT = _account_refused("Cloudflare does not know this address: check the account id")
_NO_MODEL = Verdict(ModelGone, "Workers AI has no such model: check its name in router.yaml")
_PRIVATE = _misconfigured("this account may not use the model: ask Cloudflare for access or name another")
_CREDIT = _misconfigured("the account has no credit for this model: add some or name another")
_GATEWAY = _account_refused("the AI Gateway refused us: check its name and its token")
_MISUSED = Verdict(BackendError, "Workers AI did not understand our request")

_BY_CODE: Mapping[int, Verdict] = {
    2001: _GATEWAY,
    2003: Verdict(BackendBusy, "the AI Gateway's rate limit is reached"),
    2005: _DOWN,
    2008: _GATEWAY,
    2009: _GATEWAY,
    2016: _CONTENT,
    2017: _CONTENT,
    2021: _CREDIT,
    2029: _CONTENT,
    2030: _CONTENT,
    3003: _MISUSED,
    3006: _TOO_LARGE,
    3007: _SLOW,
    3008: _SLOW,
    3021: _RATE,
    3023: _account_refused("Cloudflare has blocked the account for Workers AI: ask Cloudflare why"),
    3036: _SPENT,
    3039: _misconfigured("the fine-tune lacks files: upload them again"),
    3040: _NO_CAPACITY,
    3041: _PRIVATE,
    3042: _NO_MODEL,
    3046: _SLOW,
    4006: _SPENT,
    5004: _REFUSED,
    5005: _REFUSED,
    5006: _REFUSED,
    5007: _NO_MODEL,
    5012: _REFUSED,
    5016: _misconfigured(
        "the model's terms are not agreed to: send it the prompt `agree` once from this account"
    ),
    5018: _PRIVATE,
    5019: _MISUSED,
    5021: _OVERFLOW,
    5028: Verdict(ModelGone, "Workers AI has retired the model: name a newer one in router.yaml"),
    5035: _misconfigured("the model needs the Workers Paid plan: upgrade or name another"),
    7000: _ACCOUNT,
    7001: _MISUSED,
    7003: _ACCOUNT,
    7013: _DOWN,
    8001: _REFUSED,
    8005: _FAILED,
    8006: _REFUSED,
    8007: _REFUSED,
    9106: _TOKEN,
    10000: _TOKEN,
}
_BY_STATUS: Mapping[int, Verdict] = {
    401: _TOKEN,
    402: _CREDIT,
    403: _misconfigured("Workers AI refuses this account or token: check both"),
    404: _misconfigured("Workers AI knows no such address or model: check base_url, account id and model"),
    405: _account_refused("this is not the Workers AI API: check base_url"),
    408: _SLOW,
    410: _BY_CODE[5028],
    413: _TOO_LARGE,
    424: _CONTENT,
    429: Verdict(BackendBusy, "Workers AI asks us to wait"),
    502: _DOWN,
    503: _DOWN,
    504: _DOWN,
}


def refusal(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: datetime,
    redact: Callable[[str], str] = str,
) -> RouterError:
    """The error that a failed reply, or an error document inside a 200, stands for.

    Args:
        now: aware; for Retry-After dates and the next 00:00 UTC.
        redact: takes secrets out of upstream's words.
    """
    code, text = _said(body)
    text = redact(_REQUEST_ID.sub("", text))
    verdict = _verdict(status, code, text)
    message = f"{verdict.message}: {text[:TEXT_CHARS]}" if verdict.quoted and text else verdict.message
    return verdict.kind(
        message,
        detail=_detail(status, code, text),
        retry_after_s=_wait_s(verdict, headers, now),
        code=verdict.code,
    )


def with_successor(error: RouterError, model: Model | None) -> RouterError:
    """`error`, or what to do instead where it says that `model` is gone and another one does its work."""
    if not isinstance(error, ModelGone) or model is None or model.successor is None:
        return error
    day = f" on {model.deprecated_on}" if model.deprecated_on else ""
    return ModelGone(
        f"Workers AI has retired {model.id}{day}: name {model.successor} in its place in router.yaml",
        detail=error.detail,
    )


def _verdict(status: int, code: int | None, text: str) -> Verdict:
    """What a reply means.  300 to 399 are redirects: following one would carry the token elsewhere."""
    verdict = None if code is None else _BY_CODE.get(code)
    if verdict is _REFUSED and _TOO_LONG.search(text):
        return _OVERFLOW
    if verdict is not None and verdict is not _FAILED:
        return verdict
    if 300 <= status < 400:  # noqa: PLR2004
        return _account_refused("the address answers with a redirect, which is not followed: check base_url")
    return _BY_STATUS.get(status) or (_DOWN if 520 <= status < 530 else _FAILED)  # noqa: PLR2004


def _detail(status: int, code: int | None, text: str) -> str:
    """What is known, for the log."""
    told = f"status {status}" if code is None else f"status {status}, code {code}"
    return (f"{told}: {text}" if text else told)[:DETAIL_CHARS]


def _wait_s(verdict: Verdict, headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds until asking again makes sense."""
    if verdict is _SPENT:
        midnight = (now.astimezone(UTC) + timedelta(days=1)).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        return (midnight - now).total_seconds()
    told_s = retry_after_s(headers.get("Retry-After"), now)
    return RATE_WINDOW_S if told_s is None and verdict is _RATE else told_s


def _said(body: bytes) -> tuple[int | None, str]:
    """Code and words of the error that says most: the first whose code is known, else the first."""
    try:
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None, _page(body)
    errors = [_error(error) for error in _errors(document)]
    known = [error for error in errors if error[0] in _BY_CODE]
    return (known or errors or [(None, "")])[0]


def _errors(document: Any) -> list[Any]:
    """The errors of an envelope (`errors`), of the gateway (`error`, a list) or of OpenAI (`error`)."""
    if not isinstance(document, dict):
        return []
    found = document.get("errors") or document.get("error") or document.get("message") or []
    return found if isinstance(found, list) else [found]


def _error(error: Any) -> tuple[int | None, str]:
    """Code and words of one error; the worker binding writes the code into the words."""
    if not isinstance(error, dict):
        error = {"message": error}
    text = str(error.get("message") or "")
    code = error.get("code") or error.get("internalCode")
    if isinstance(code, str) and code.isdecimal() and len(code) <= 6:  # noqa: PLR2004
        code = int(code)
    if not isinstance(code, int):
        leading = _LEADING_CODE.match(text)
        code = int(leading[1]) if leading else None
    return code, text


def _page(body: bytes) -> str:
    """The beginning of a body that is no JSON, such as a proxy's HTML page."""
    return body[:TEXT_CHARS].decode("utf-8", "replace")
