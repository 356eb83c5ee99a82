"""The addresses of a gateway's host: one provider, several in a row, and what there is."""

from __future__ import annotations

import msgspec
from aiohttp import web

from hybrid_router.api import body, multipart, raw, responses
from hybrid_router.api.ai_gateway import names
from hybrid_router.api.ai_gateway.gateways import GATEWAYS, Gateway, named
from hybrid_router.api.ai_gateway.passage import Brought, Passage
from hybrid_router.api.exchange import STARTED
from hybrid_router.api.failures import ACCOUNT
from hybrid_router.api.generation import CURRENT
from hybrid_router.api.openai import endpoints
from hybrid_router.core.errors import CallRefused
from hybrid_router.gateway import steps
from hybrid_router.gateway.controls import from_headers
from hybrid_router.gateway.steps import GatewayStep

BASE = f"/v1/{{account:{ACCOUNT}}}/{{gateway}}"
UNIVERSAL = BASE.replace("{gateway}", "{gateway:[^/]+/?}")  # clients write it with a slash behind it, too


async def universal(request: web.Request) -> web.StreamResponse:
    """POST /v1/{account}/{gateway}: the first step that works.

    The keys that steps carry are those of providers elsewhere: they are dropped while the body is read.
    """
    gateway(request)  # an unknown one is told before its body is read
    asked = steps.read(await body.read(request), keeps_headers=False)
    return await _passage(request).run(asked)


async def provider(request: web.Request) -> web.StreamResponse:
    """POST /v1/{account}/{gateway}/{provider}/…: as that provider has it."""
    gateway(request)  # as above
    step = GatewayStep(
        provider=request.match_info["provider"].lower(), endpoint=request.match_info["endpoint"].strip("/")
    )
    if request.content_type == "multipart/form-data":
        async with multipart.form(request) as form:
            return await _passage(request, Brought(form=form, parameters=dict(request.query))).run([step])
    async with raw.received(request) as received:
        brought = Brought(content=received.upload, parameters=dict(request.query))
        if received.document is not None:
            step = msgspec.structs.replace(step, query=_document(received.document))
        return await _passage(request, brought).run([step])


async def compat_models(request: web.Request) -> web.Response:
    """GET /v1/{account}/{gateway}/compat/models: what may be asked by `compat`."""
    gateway(request)
    aliases = request.app[CURRENT].generation.answers.aliases
    told = names.listing(aliases, request.app[STARTED], "hybrid-router")
    return responses.document(msgspec.json.encode(told))


def gateway(request: web.Request) -> Gateway:
    """The gateway that the address names.  Raises NoGateway: there is none."""
    generation = request.app[CURRENT].generation
    return request.app[GATEWAYS].find(generation, named(request))


def _passage(request: web.Request, brought: Brought | None = None) -> Passage:
    wishes = from_headers(endpoints.headers(request))
    return Passage(request, request.app[GATEWAYS], gateway(request), wishes, brought)


def _document(content: bytes) -> object:
    """A provider's body.  Of a property that is there twice, the last counts, here and in what keeps it."""
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise CallRefused("the body is not JSON") from None
