"""Errors of the router as AI Gateway writes them: `error` is a list there.

Source: published captures of the gateway host.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hybrid_router.core.errors import (
    BackendBusy,
    CallRefused,
    ModelNotFound,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    RouterError,
)


class NoGateway(CallRefused):
    """No gateway of this name."""


# From the special to the general: the first that fits counts.
_CODES: tuple[tuple[type[RouterError], int], ...] = (
    (NoGateway, 2001),
    (NotAuthenticated, 2009),
    (NotPermitted, 2009),
    (ModelNotFound, 2005),
    (NotFound, 2008),
    (BackendBusy, 2003),
)
_OTHERS = 2005


def code(error: RouterError) -> int:
    """The nearest of the gateway's codes."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), _OTHERS)


def document(error: RouterError) -> bytes:
    """The body of a failed reply."""
    return msgspec.json.encode(told(code(error), error.status, error.message))


def told(number: int, status: int, message: str) -> dict[str, Any]:
    """The same of a code of the gateway's own."""
    return {
        "success": False,
        "result": [],
        "messages": [],
        "error": [{"code": number, "message": message}],
        "name": "AiGatewayError",
        "httpCode": status,
        "internalCode": number,
        "message": message,
    }
