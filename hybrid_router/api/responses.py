"""Responses that every route may give, and the headers that every response carries."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

from aiohttp import web

from hybrid_router.api.exchange import EXCHANGE, LIFECYCLE, Exchange
from hybrid_router.api.generation import CURRENT
from hybrid_router.api.openai import error as openai_error
from hybrid_router.core.errors import RouterError
from hybrid_router.dispatch.record import Record

JSON = "application/json"
_EXPOSED = (
    "x-request-id, openai-processing-ms, retry-after, retry-after-ms, x-should-retry, x-router-backend, "
    "x-router-model, x-router-attempts, x-router-decision, x-router-ignored, x-router-neurons-left, "
    "cf-ai-req-id, cf-aig-cache-status, cf-aig-step, cf-aig-log-id, cf-aig-event-id, "
    "cf-aig-provider, cf-aig-model"
)
_LONGEST_IGNORED = 1024


def document(body: bytes, status: int = 200, content_type: str = JSON) -> web.Response:
    """A whole document."""
    return web.Response(body=body, status=status, headers={"content-type": content_type})


def failure(error: RouterError, exchange: Exchange) -> web.Response:
    """An error that is told before anything else was."""
    response = document(exchange.failure(error), error.status)
    response.headers.update(openai_error.headers(error))
    if (record := exchange.record) is not None:
        response.headers["x-router-attempts"] = str(len(record.attempts))
        response.headers["x-router-decision"] = record.id
    return response


def preflight() -> web.Response:
    """Yes, an allowed page may call; `dress` adds whose page."""
    return web.Response(
        status=204,
        headers={
            "access-control-allow-methods": "GET, POST, PUT, PATCH, DELETE",
            "access-control-allow-headers": "authorization, *",
            "access-control-allow-private-network": "true",
            "access-control-max-age": "600",
        },
    )


def decision_headers(record: Record) -> dict[str, str]:
    """Who answered, and why it was them."""
    headers = {"x-router-attempts": str(len(record.attempts)), "x-router-decision": record.id}
    if (attempt := record.last) is not None:
        headers["x-router-backend"] = attempt.backend
        headers["x-router-model"] = attempt.model
    if record.neurons_left is not None and attempt is not None:
        headers["x-router-neurons-left"] = f"{max(0.0, record.neurons_left):.0f}"
    if record.ignored:
        headers["x-router-ignored"] = _listed(record.ignored)
    return headers


def _listed(names: tuple[str, ...]) -> str:
    """Field names as one header.  Clients chose them: what could end or fill the header is escaped or cut."""
    listed = ",".join(quote(name[:64], safe="[]$@") for name in names)
    return (
        listed if len(listed) <= _LONGEST_IGNORED else listed[:_LONGEST_IGNORED].rpartition(",")[0] + ",..."
    )


async def dress(request: web.Request, response: web.StreamResponse) -> None:
    """Give a response what all have; aiohttp calls this right before the head is sent."""
    headers = response.headers
    headers.popall("Server", None)
    headers["cache-control"] = "no-store"
    headers["x-content-type-options"] = "nosniff"
    exchange = request.get(EXCHANGE)
    if exchange is not None:
        headers["x-request-id"] = exchange.request_id
        elapsed_s = asyncio.get_running_loop().time() - exchange.started_s
        headers["openai-processing-ms"] = str(round(elapsed_s * 1000))
        headers.update(exchange.headers)
        if exchange.origin is not None:
            headers["access-control-allow-origin"] = exchange.origin
            headers["access-control-expose-headers"] = _EXPOSED
    if request.app[CURRENT].generation.server.allowed_origins:
        headers["vary"] = "origin"
    if request.app[LIFECYCLE].draining:
        headers["connection"] = "close"
        response.force_close()
