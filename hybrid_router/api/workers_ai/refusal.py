"""The errors of the API, and the envelope they and most answers come in."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from aiohttp import web

from hybrid_router.core import ids

# code: (HTTP status, message).  Source: Workers AI errors page and published captures.
_TABLE = {
    1000: (401, "Invalid API Token"),
    3003: (400, "request is missing headers or body: body"),
    3006: (413, "request too large"),
    3007: (408, "request timeout"),
    3008: (408, "request aborted"),
    3021: (429, "rate limiting: inference request per min rate reached"),
    3023: (403, "service unavailable for account"),
    3036: (429, "you have used up your daily free allocation of 10,000 neurons"),
    3039: (400, "fine-tune is missing required files"),
    3040: (429, "Capacity temporarily exceeded, please try again."),
    3041: (403, "account is not allowed to use this private model"),
    3042: (404, "invalid model ID"),
    3046: (408, "request timeout"),
    4006: (
        429,
        "you have used up your daily free allocation of 10,000 neurons, please upgrade to Cloudflare's "
        "Workers Paid plan if you would like to continue usage.",
    ),
    5004: (400, "invalid data type for base64 input"),
    5005: (405, "model does not support LoRA"),
    5006: (400, "Bad input"),
    5007: (400, "No such model or task"),
    5012: (422, "the model refused its input"),
    5016: (403, "model terms not agreed: send the prompt 'agree' once"),
    5018: (403, "account is not allowed to use this private model"),
    5019: (405, "deprecated SDK version"),
    5028: (410, "this model has been deprecated"),
    5035: (403, "this model requires the Workers Paid plan"),
    7000: (404, "No route for that URI"),
    7001: (405, "GET not supported for requested URI."),
    7003: (404, "Could not route to /client/v4/accounts/, perhaps your object identifier is invalid?"),
    8001: (400, "invalid input"),
    8005: (500, "internal server error"),
    8006: (400, "max_tokens is too small for the forced tool call"),
    8007: (400, "the model server refused the request"),
    9106: (400, "Authentication failed"),
    10000: (401, "Authentication error"),
}
TABLE: Mapping[int, tuple[int, str]] = MappingProxyType(_TABLE)
_NO_GATEWAY, _NO_ROUTE, _BAD_OBJECT = 2001, 7000, 7003
# Codes of the API's front, before the AI service: no prefix, and `result` is null.
FRONT = frozenset({1000, _NO_GATEWAY, _NO_ROUTE, 7001, _BAD_OBJECT, 9106, 10000})


class Refusal(Exception):
    """A call that ends in an error.  `headers` are sent with it."""

    def __init__(
        self,
        code: int,
        message: str | None = None,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        usual_status, usual_message = TABLE.get(code, (500, "internal error"))
        self.code = code
        self.status = status or usual_status
        self.message = message or usual_message
        self.headers = dict(headers or {})
        super().__init__(self.message)


def body_of(refusal: Refusal) -> dict[str, Any]:
    """The failed envelope.  The AI service's own messages carry a prefix and an id."""
    errors: list[dict[str, Any]] = [{"code": refusal.code, "message": refusal.message}]
    if refusal.code not in FRONT:
        errors[0]["message"] = f"AiError: {refusal.message} ({ids.new('')[:8]})"
    if refusal.code == _BAD_OBJECT:
        errors.append({"code": _NO_ROUTE, "message": TABLE[_NO_ROUTE][1]})
    return {
        "errors": errors,
        "success": False,
        "result": None if refusal.code in FRONT else {},
        "messages": [],
    }


def refused(refusal: Refusal) -> web.Response:
    """`refusal` as a reply."""
    return web.json_response(body_of(refusal), status=refusal.status, headers=refusal.headers)


def wrapped(result: Any, **more: Any) -> dict[str, Any]:
    """The envelope of an answer."""
    return {"result": result, "success": True, "errors": [], "messages": [], **more}
