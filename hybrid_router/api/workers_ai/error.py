"""Errors of the router as Workers AI writes them: in its envelope, by its codes.

Source: Workers AI errors page and published captures; see `api.workers_ai.refusal`.
"""

from __future__ import annotations

import msgspec

from hybrid_router.api.ai_gateway.error import NoGateway
from hybrid_router.api.workers_ai.refusal import Refusal, body_of
from hybrid_router.core.errors import (
    BackendBusy,
    BackendTimeout,
    BodyTimeout,
    BodyTooLarge,
    CallRefused,
    ContextOverflow,
    Inexpressible,
    MethodNotAllowed,
    ModelNotFound,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    PolicyRefused,
    QuotaExhausted,
    RedactionImpossible,
    RouterError,
    RouterLoop,
    UnsupportedMediaType,
)

_OTHERS = 8005
# From the special to the general: the first that fits counts.
_CODES: tuple[tuple[type[RouterError], int], ...] = (
    (NoGateway, 2001),
    (ModelNotFound, 5007),
    (ContextOverflow, 8007),
    (CallRefused, 5006),
    (UnsupportedMediaType, 5006),
    (BodyTooLarge, 3006),
    (BodyTimeout, 3008),
    (NotAuthenticated, 10000),
    (PolicyRefused, 3023),
    (NotPermitted, 10000),
    (MethodNotAllowed, 7001),
    (NotFound, 7000),
    (QuotaExhausted, 4006),
    (BackendBusy, 3040),
    (BackendTimeout, 3046),
    (RedactionImpossible, _OTHERS),
    (RouterLoop, _OTHERS),
    (Inexpressible, 5006),
)


def refusal(error: RouterError) -> Refusal:
    """The nearest of Cloudflare's codes, with our words and our status."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), _OTHERS)
    return Refusal(code, error.message, status=error.status)


def document(error: RouterError) -> bytes:
    """The envelope of a failed reply."""
    return msgspec.json.encode(body_of(refusal(error)))
