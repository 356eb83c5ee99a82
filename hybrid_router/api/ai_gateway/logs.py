"""A gateway's log, at the addresses and in the envelope of Cloudflare's API."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from aiohttp import web

from hybrid_router.api import body, responses
from hybrid_router.api.ai_gateway.endpoints import gateway
from hybrid_router.api.exchange import EXCHANGE
from hybrid_router.api.workers_ai.refusal import wrapped
from hybrid_router.core.errors import NotFound
from hybrid_router.gateway import log_filter, logbook
from hybrid_router.gateway.logbook import MOST_REMOVED

T = TypeVar("T")
BASE = "/client/v4/accounts/{account}/ai-gateway/gateways/{gateway}/logs"


async def listing(request: web.Request) -> web.Response:
    """GET …/logs: a page of the caller's own entries."""
    wanted = logbook.wanted(request.query, log_filter.filters(list(request.query.items())))
    entries, told = gateway(request).log.listing(request[EXCHANGE].principal, wanted)
    return _told([entry.document() for entry in entries], result_info=told)


async def show(request: web.Request) -> web.Response:
    """GET …/logs/{id}.  Another principal's is not there: the same 404 for both."""
    entry = gateway(request).log.find(request.match_info["id"], request[EXCHANGE].principal)
    return _told(_there(entry).details())


async def say(request: web.Request) -> web.Response:
    """PATCH …/logs/{id}: feedback, a score, metadata."""
    patch = logbook.patch(await body.read(request))
    entry = gateway(request).log.patch(request.match_info["id"], request[EXCHANGE].principal, patch)
    return _told(_there(entry).document())


async def remove(request: web.Request) -> web.Response:
    """DELETE …/logs: the caller's own entries that are meant, the oldest first."""
    limit = logbook.count(request.query, "limit", MOST_REMOVED, MOST_REMOVED, least=0)
    filters = log_filter.filters(list(request.query.items()))
    gateway(request).log.remove(request[EXCHANGE].principal, filters, limit)
    return _told({})


def _there(entry: T | None) -> T:
    if entry is None:
        raise NotFound("there is no entry of this id")
    return entry


def _told(result: Any, **more: Any) -> web.Response:
    return responses.document(msgspec.json.encode(wrapped(result, **more)))
