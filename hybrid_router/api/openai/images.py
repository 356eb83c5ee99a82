"""The OpenAI dialect's addresses for pictures: decode, have it answered, encode; and fetching them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aiohttp import web

from hybrid_router.api import body, calls, data_urls, gallery, multipart, responses
from hybrid_router.api.exchange import EXCHANGE
from hybrid_router.api.gallery import GALLERY
from hybrid_router.api.openai import endpoints, error, image_request, pictures
from hybrid_router.api.openai.image_request import ImageRequest
from hybrid_router.core import ids
from hybrid_router.core.errors import CallRefused, NotFound

_PREFIX = "img-"


async def generate(request: web.Request) -> web.StreamResponse:
    """POST /v1/images/generations."""
    raw = await body.read(request)
    return await _painted(
        request, endpoints.decoded(request, raw, image_request.generation, _PREFIX, request.path)
    )


async def edit(request: web.Request) -> web.StreamResponse:
    """POST /v1/images/edits, as a form or as JSON."""
    if request.content_type == "multipart/form-data":
        return await _of_form(request, image_request.edit_form)
    raw = await body.read(request)
    asked = endpoints.decoded(request, raw, image_request.edit, _PREFIX, request.path)
    with data_urls.uploads(request, asked.urls) as uploads:
        try:
            return await _painted(request, image_request.with_files(asked.request, uploads))
        except CallRefused as error:
            raise image_request.told_in_json(error) from None


async def vary(request: web.Request) -> web.StreamResponse:
    """POST /v1/images/variations."""
    return await _of_form(request, image_request.variation_form)


async def fetch(request: web.Request) -> web.Response:
    """GET /v1/images/files/{id}.  Another principal's is not there: the same 404 for both."""
    found = request.app[GALLERY].find(request.match_info["id"], request[EXCHANGE].principal)
    if found is None:
        raise NotFound("there is no picture of this id; one can be fetched for an hour, by whose it is")
    return responses.document(found.content, content_type=found.media_type)


async def _of_form(request: web.Request, decode: Callable[..., ImageRequest]) -> web.StreamResponse:
    """Read the form and answer while its files are there."""
    exchange = request[EXCHANGE]
    async with multipart.form(request) as form:
        asked = decode(
            form,
            call_id=ids.sibling(exchange.request_id, _PREFIX),
            principal=exchange.principal,
            headers=endpoints.headers(request),
            path=request.path,
        )
        return await _painted(request, asked)


async def _painted(request: web.Request, asked: ImageRequest) -> web.StreamResponse:
    created_s = int(time.time())
    if asked.call.stream:
        chunks = pictures.PictureChunks(asked, created_s)
        return await calls.stream(request, asked.call, chunks, error.in_band)
    return await calls.plain(
        request,
        asked.call,
        lambda events: pictures.document(asked, created_s, events, lambda content: kept(request, content)),
    )


def kept(request: web.Request, content: bytes) -> str:
    """Where a picture can be fetched: the router's address as this client knows it."""
    exhibits = request.app[GALLERY]
    name = exhibits.add(content, request[EXCHANGE].principal)
    asyncio.get_running_loop().call_later(gallery.LIFETIME_S, exhibits.sweep)
    return f"{request.url.origin()}/v1/images/files/{name}"
