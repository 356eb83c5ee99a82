"""Cloudflare's addresses: inference, the catalogue, and whether a key is good.

Accounts are not looked at: whose call it is, the router's own key tells, and that key goes nowhere.
"""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from msgspec.structs import replace

from hybrid_router.api import multipart, raw
from hybrid_router.api.exchange import EXCHANGE
from hybrid_router.api.workers_ai import body as bodies
from hybrid_router.api.workers_ai import listing
from hybrid_router.api.workers_ai.answering import alias_of, answer
from hybrid_router.api.workers_ai.directory import DIRECTORY
from hybrid_router.api.workers_ai.form import Given
from hybrid_router.api.workers_ai.forms.table import FORMS
from hybrid_router.api.workers_ai.names import NoSuchModel
from hybrid_router.api.workers_ai.refusal import wrapped
from hybrid_router.catalogue.families import family
from hybrid_router.catalogue.workers_ai import Model
from hybrid_router.core.errors import CallRefused

_REQUEST_ID = "cf-ai-req-id"
_ACTIVE = "This API Token is valid and active"


async def run(request: web.Request) -> web.StreamResponse:
    """POST /client/v4/accounts/{account}/ai/run/{model}, and …/run with the model in the body."""
    _stamp(request)
    bodies.refuse_later(request.query, None)  # before a file is taken in
    if request.content_type == "multipart/form-data":
        async with multipart.form(request) as form:
            files = {name: found[0] for name, found in form.files.items()}
            return await answer(request, _given(request, bodies.checked(form.values()), files=files))
    async with raw.received(request) as came:
        if came.upload is not None:
            return await answer(request, _given(request, None, content=came.upload))
        return await answer(request, _given(request, bodies.document(came.document or b"")))


async def openai(request: web.Request) -> web.StreamResponse:
    """POST /client/v4/accounts/{account}/ai/v1/chat/completions, embeddings and responses."""
    _stamp(request)
    async with raw.received(request) as came:
        asked = bodies.document(came.document or b"")
        bodies.refuse_later(request.query, asked)
        return await answer(request, Given(model=_named(asked), body=asked, openai=True))


async def search(request: web.Request) -> web.Response:
    """GET /client/v4/accounts/{account}/ai/models/search: of Cloudflare's models, those answered here."""
    catalogue = request.app[DIRECTORY].catalogue
    served = replace(catalogue, models=tuple(m for m in catalogue.models if _is_served(request, m)))
    return web.json_response(listing.search(served, request.query, datetime.now(UTC).date()))


async def schema(request: web.Request) -> web.Response:
    """GET /client/v4/accounts/{account}/ai/models/schema?model="""
    directory, asked = request.app[DIRECTORY], request.query.get("model", "")
    if not asked:
        raise CallRefused("the address lacks 'model', as in /ai/models/schema?model=NAME", param="model")
    if (model := directory.models.get(asked)) is None:
        raise NoSuchModel(f"No such model {asked} in Cloudflare's catalogue", param="model")
    return web.json_response(listing.schemas(directory.catalogue, model))


async def verify(request: web.Request) -> web.Response:
    """GET /client/v4/user/tokens/verify and /client/v4/accounts/{account}/tokens/verify."""
    of_whom = hashlib.sha256(request[EXCHANGE].principal.encode()).hexdigest()[:32]
    told = wrapped({"id": of_whom, "status": "active"})
    told["messages"] = [{"code": 10000, "message": _ACTIVE, "type": None}]
    return web.json_response(told)


def _stamp(request: web.Request) -> None:
    request[EXCHANGE].headers[_REQUEST_ID] = str(uuid.uuid4())


def _given(request: web.Request, body: dict[str, Any] | None, **came: Any) -> Given:
    """The input, whichever of the two addresses it came to."""
    query = dict(request.query)
    bodies.refuse_later(query, body)
    model = request.match_info.get("model")
    if model is not None:
        return Given(model=model, body=body, query=query, **came)
    model = _named(body or {})
    inner = (body or {}).get("input")
    if not isinstance(inner, dict):
        raise CallRefused("Bad input: Error: Type mismatch of '/input', 'object' expected", param="/input")
    return Given(model=model, body=bodies.checked(inner), query=query, **came)


def _named(body: dict[str, Any]) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise CallRefused("Bad input: Error: required properties at '/' are 'model'", param="/model")
    return model


def _is_served(request: web.Request, model: Model) -> bool:
    if family(model) not in FORMS:
        return False
    try:
        alias_of(request, model.id)
    except NoSuchModel:
        return False
    return True
