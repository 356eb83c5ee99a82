"""What is told of a request that was turned away before it was a call."""

from __future__ import annotations

from aiohttp import web

from hybrid_router.api.answers import Refused
from hybrid_router.api.exchange import EXCHANGE
from hybrid_router.core.errors import MisdirectedHost, NotPermitted, RouterError

_LONGEST = 100


def refused(request: web.Request, error: RouterError) -> Refused:
    """Who asked for what, and why not."""
    misdirected = isinstance(error, MisdirectedHost)
    forbidden = isinstance(error, NotPermitted) and not misdirected  # the one kind is also the other
    return Refused(
        request=request[EXCHANGE].request_id,
        status=error.status,
        error=error.code,
        method=printable(request.method),
        path=_path(request),
        client=request.remote,
        host=error.detail or None if misdirected else None,
        origin=error.detail or None if forbidden else None,
    )


def printable(text: str) -> str:
    """The beginning of what a client sent, fit to be shown: whatever does not print is a question mark."""
    shown = "".join(one if one.isprintable() else "?" for one in text[:_LONGEST])
    return shown if len(text) <= _LONGEST else shown + "…"


def _path(request: web.Request) -> str:
    """The route's pattern, else what was asked for, without a query, which may hold a key."""
    resource = request.match_info.route.resource
    return printable(request.rel_url.raw_path) if resource is None else resource.canonical
