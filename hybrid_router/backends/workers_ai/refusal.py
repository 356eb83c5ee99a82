"""Name a failed reply.  The code in the body decides; the status if there is none, or one that says nothing.

Several 429s look alike and need different answers: a minute's rate (3021), no capacity (3040), the day's
allowance (3036, 4006).  Sources: Workers AI and AI Gateway error pages, and captured replies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from hybrid_router.backends.http import retry_after_s
from hybrid_router.backends.refusal import (
    DOWN,
    FAILED,
    OVERFLOW,
    REFUSED,
    SLOW,
    TOO_LARGE,
    Verdict,
    by_status,
    document,
    named,
    unless_too_long,
)
from hybrid_router.catalogue.workers_ai import Model
from hybrid_router.core.errors import (
    AccountRefused,
    BackendBusy,
    BackendError,
    BackendMisconfigured,
    ContentRefused,
    QuotaExhausted,
    RouterError,
)


class ModelGone(BackendMisconfigured):
    """There is no such model, or no longer."""


class NoSuch(ModelGone):
    """There never was such a model, or fine-tune, as far as Workers AI knows."""


RATE_WINDOW_S = 60.0
_LEADING_CODE = re.compile(r"\s*(?:AiError:\s*)*(\d{4,5}):")
_REQUEST_ID = re.compile(r"\s*\([0-9a-f-]{8,36}\)\s*\Z")


def _misconfigured(message: str) -> Verdict:
    return Verdict(BackendMisconfigured, message)


def _account_refused(message: str) -> Verdict:
    return Verdict(AccountRefused, message)


_CONTENT = Verdict(ContentRefused, "Cloudflare's content rules refused this call")
_SPENT = Verdict(QuotaExhausted, "today's Workers AI allowance is spent: it is renewed at 00:00 UTC")
_NO_CAPACITY = Verdict(BackendBusy, "Workers AI has no capacity for this model right now")
_RATE = Verdict(BackendBusy, "Workers AI's rate limit for this minute is reached")
_TOKEN = _account_refused(
    "Workers AI does not accept the API token: make one with the permission Workers AI Read for this account"
)
_ACCOUNT = _account_refused("Cloudflare does not know this address: check the account id")
_NO_MODEL = Verdict(NoSuch, "Workers AI has no such model: check its name in router.yaml")
_NO_TUNE = Verdict(
    NoSuch,
    "Workers AI has no such model or fine-tune: check its name in router.yaml, or in the call's `lora`",
)
_PRIVATE = _misconfigured("this account may not use the model: ask Cloudflare for access or name another")
_CREDIT = _misconfigured("the account has no credit for this model: add some or name another")
_GATEWAY = _account_refused("the AI Gateway refused us: check its name and its token")
_MISUSED = Verdict(BackendError, "Workers AI did not understand our request")

_BY_CODE: Mapping[int, Verdict] = {
    2001: _GATEWAY,
    2003: Verdict(BackendBusy, "the AI Gateway's rate limit is reached"),
    2005: DOWN,
    2008: _GATEWAY,
    2009: _GATEWAY,
    2016: _CONTENT,
    2017: _CONTENT,
    2021: _CREDIT,
    2029: _CONTENT,
    2030: _CONTENT,
    3003: _MISUSED,
    3006: TOO_LARGE,
    3007: SLOW,
    3008: SLOW,
    3021: _RATE,
    3023: _account_refused("Cloudflare has blocked the account for Workers AI: ask Cloudflare why"),
    3036: _SPENT,
    3039: _misconfigured("the fine-tune lacks files: upload them again"),
    3040: _NO_CAPACITY,
    3041: _PRIVATE,
    3042: _NO_TUNE,
    3046: SLOW,
    4006: _SPENT,
    5004: REFUSED,
    5005: REFUSED,
    5006: REFUSED,
    5007: _NO_MODEL,
    5012: REFUSED,
    5016: _misconfigured(
        "the model's terms are not agreed to: send it the prompt `agree` once from this account"
    ),
    5018: _PRIVATE,
    5019: _MISUSED,
    5021: OVERFLOW,
    5028: Verdict(ModelGone, "Workers AI has retired the model: name a newer one in router.yaml"),
    5035: _misconfigured("the model needs the Workers Paid plan: upgrade or name another"),
    7000: _ACCOUNT,
    7001: _MISUSED,
    7003: _ACCOUNT,
    7013: DOWN,
    8001: REFUSED,
    8005: FAILED,
    8006: REFUSED,
    8007: REFUSED,
    9106: _TOKEN,
    10000: _TOKEN,
}
_BY_STATUS: Mapping[int, Verdict] = {
    401: _TOKEN,
    402: _CREDIT,
    403: _misconfigured("Workers AI refuses this account or token: check both"),
    404: _misconfigured("Workers AI knows no such address or model: check base_url, account id and model"),
    405: _account_refused("this is not the Workers AI API: check base_url"),
    408: SLOW,
    410: _BY_CODE[5028],
    413: TOO_LARGE,
    424: _CONTENT,
    429: Verdict(BackendBusy, "Workers AI asks us to wait"),
    502: DOWN,
    503: DOWN,
    504: DOWN,
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
    return named(
        "Workers AI",
        verdict,
        text,
        told=f"status {status}" if code is None else f"status {status}, code {code}",
        retry_after_s=_wait_s(verdict, headers, now),
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
    """What a reply means.  A code that only says that something failed leaves it to the status."""
    verdict = FAILED if code is None else _BY_CODE.get(code, FAILED)
    return by_status(status, _BY_STATUS) if verdict is FAILED else unless_too_long(verdict, text)


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
    told = document(body)
    if isinstance(told, str):
        return None, told
    errors = [_error(error) for error in _errors(told)]
    known = [error for error in errors if error[0] in _BY_CODE]
    return (known or errors or [(None, "")])[0]


def _errors(told: Any) -> list[Any]:
    """The errors of an envelope (`errors`), of the gateway (`error`, a list) or of OpenAI (`error`)."""
    if not isinstance(told, dict):
        return []
    found = told.get("errors") or told.get("error") or told.get("message") or []
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
