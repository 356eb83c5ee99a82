"""GET /health, GET /ready and GET /: is the process there, can it serve, what is it."""

from __future__ import annotations

import msgspec
from aiohttp import web

from hybrid_router.api import responses
from hybrid_router.api.exchange import LIFECYCLE, VERSION
from hybrid_router.api.generation import CURRENT


async def health(request: web.Request) -> web.Response:
    """The process answers.  Nothing else is looked at, so a supervisor may ask often."""
    return responses.document(b'{"status":"ok"}')


async def ready(request: web.Request) -> web.Response:
    """Whether at least one alias could be served now; why not, alias by alias."""
    answers = request.app[CURRENT].generation.answers
    unservable = answers.unservable()
    aliases = {
        alias: {"state": "unavailable", "because": unservable[alias]}
        if alias in unservable
        else {"state": "ready"}
        for alias in answers.aliases
    }
    draining = request.app[LIFECYCLE].draining
    serves = not draining and len(unservable) < len(aliases)
    status = "draining" if draining else "ready" if serves else "unavailable"
    return responses.document(
        msgspec.json.encode({"status": status, "models": aliases}), 200 if serves else 503
    )


async def root(request: web.Request) -> web.Response:
    """A signpost, for people and for clients that ask `HEAD /` first."""
    signpost = {
        "name": "hybrid-router",
        "version": request.app[VERSION],
        "openai": "/v1",
        "models": "/v1/models",
        "ready": "/ready",
    }
    return responses.document(msgspec.json.encode(signpost))
