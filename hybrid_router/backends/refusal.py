"""What error replies mean: what the tables of all clouds have in common.

`{label}` in a message stands for the cloud's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from hybrid_router.backends.http import DETAIL_CHARS
from hybrid_router.core.errors import (
    AccountRefused,
    BackendError,
    BackendTimeout,
    BackendUnavailable,
    CallRefused,
    ContextOverflow,
    RouterError,
)

TEXT_CHARS = 500
_TOO_LONG = re.compile(
    r"context (length|window|size|limit)|maximum context|max_model_len|too many (input )?tokens"
    r"|tokens? .{0,60}exceed|prompt is too long",
    re.IGNORECASE,
)
_REDIRECTS = range(300, 400)
_ORIGIN_DOWN = range(520, 530)


class Verdict(Struct, frozen=True):
    """What a reply means.  `quoted`: the cloud's own words help the client, so they are added."""

    kind: type[RouterError]
    message: str
    quoted: bool = False
    code: str | None = None


REFUSED = Verdict(CallRefused, "{label} does not accept this call", quoted=True)
TOO_LARGE = Verdict(CallRefused, "the call is too large for {label}: send less", code="request_too_large")
OVERFLOW = Verdict(ContextOverflow, "prompt and answer do not fit into the model's context", quoted=True)
SLOW = Verdict(BackendTimeout, "{label} gave up on the call: it took too long there")
DOWN = Verdict(BackendUnavailable, "{label} is not available right now")
FAILED = Verdict(BackendError, "{label} failed to answer")
REDIRECT = Verdict(AccountRefused, "{label} answers with a redirect, which is not followed: check base_url")


def by_status(status: int, known: Mapping[int, Verdict]) -> Verdict:
    """What a reply means whose body tells nothing.  Following a redirect would carry the token elsewhere."""
    if status in _REDIRECTS:
        return REDIRECT
    return known.get(status) or (DOWN if status in _ORIGIN_DOWN else FAILED)


def unless_too_long(verdict: Verdict, text: str) -> Verdict:
    """`verdict`, or that the call is too long, where its refusal says so in words alone."""
    return OVERFLOW if verdict is REFUSED and _TOO_LONG.search(text) else verdict


def named(
    label: str, verdict: Verdict, text: str, *, told: str, retry_after_s: float | None = None
) -> RouterError:
    """The error itself.

    Args:
        text: the cloud's own words, without secrets.
        told: what else is known, for the log.
    """
    message = verdict.message.format(label=label)
    return verdict.kind(
        f"{message}: {text[:TEXT_CHARS]}" if verdict.quoted and text else message,
        detail=(f"{told}: {text}" if text else told)[:DETAIL_CHARS],
        retry_after_s=retry_after_s,
        code=verdict.code,
    )


def document(body: bytes) -> Any:
    """The body, if it is JSON; else, as of a proxy's page, the text it begins with."""
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return body[:TEXT_CHARS].decode("utf-8", "replace")
