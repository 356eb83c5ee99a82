"""The aiohttp application: table of routes, guard, and what hangs on it."""

from __future__ import annotations

import time

from aiohttp import web

from hybrid_router.api import body, metrics, multipart, responses
from hybrid_router.api.ai_gateway.gateways import GATEWAYS, Gateways
from hybrid_router.api.answers import Answers, OnCall, OnRefusal, pass_over, tell_nobody
from hybrid_router.api.exchange import LIFECYCLE, ON_CALL, ON_REFUSAL, STARTED, VERSION, Lifecycle
from hybrid_router.api.gallery import GALLERY, Gallery
from hybrid_router.api.generation import CURRENT, Current, Fronts, Generation
from hybrid_router.api.guard import Guard, middleware
from hybrid_router.api.multipart import SHELF, Shelf
from hybrid_router.api.routes import ROUTES
from hybrid_router.api.workers_ai.directory import DIRECTORY
from hybrid_router.catalogue.directory import Directory
from hybrid_router.config.schema import Server


def create_application(
    answers: Answers,
    server: Server,
    version: str,
    *,
    fronts: Fronts | None = None,
    on_call: OnCall = tell_nobody,
    on_refusal: OnRefusal = pass_over,
) -> web.Application:
    """Everything that speaks HTTP, ready for a `Listener`, with one configuration; see `application_for`."""
    return application_for(
        generation(answers, server, fronts), version, on_call=on_call, on_refusal=on_refusal
    )


def application_for(
    first: Generation,
    version: str,
    *,
    on_call: OnCall = tell_nobody,
    on_refusal: OnRefusal = pass_over,
    told: metrics.Told = metrics.nothing,
    directory: Directory | None = None,
) -> web.Application:
    """Everything that speaks HTTP, ready for a `Listener`.

    Args:
        first: what requests belong to until `application[CURRENT].generation` is another.
        version: shown at `/`.
        on_call: hears of every decoded call once, when it has ended.
        on_refusal: hears of every request that got an error before it was a call.
        told: what GET /metrics tells.
        directory: Cloudflare's models; None: those that ship.
    """
    multipart.raise_for_odd_heads()
    current = Current(first)
    application = web.Application(middlewares=[middleware(current)])
    application[CURRENT] = current
    application[LIFECYCLE] = Lifecycle()
    application[VERSION] = version
    application[STARTED] = int(time.time())
    application[ON_CALL] = on_call
    application[ON_REFUSAL] = on_refusal
    application[metrics.METRICS] = told
    application[SHELF] = Shelf()
    application[GALLERY] = Gallery()
    application[GATEWAYS] = Gateways()
    application[DIRECTORY] = directory or Directory()
    application.on_response_prepare.append(responses.dress)
    for route in ROUTES:
        resource = application.router.add_resource(route.path)
        for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
            resource.add_route(method, route.respond, expect_handler=body.ignore_expect)
    return application


def generation(answers: Answers, server: Server, fronts: Fronts | None = None) -> Generation:
    """One configuration as requests meet it."""
    public = frozenset(route.respond for route in ROUTES if route.auth == "public")
    return Generation(answers, server, Guard(server, public).admit, fronts)
