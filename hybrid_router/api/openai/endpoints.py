"""The OpenAI dialect's addresses: decode, have it answered, encode."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from aiohttp import web

from hybrid_router.api import body, calls, responses
from hybrid_router.api.exchange import EXCHANGE, STARTED
from hybrid_router.api.generation import CURRENT
from hybrid_router.api.openai import (
    chat_request,
    completion_request,
    embedding_request,
    error,
    models,
    reply,
    rerank_request,
    vectors,
)
from hybrid_router.api.openai.chunks import ChatChunks, CompletionChunks
from hybrid_router.core import ids
from hybrid_router.core.secret import SECRET_HEADERS

T = TypeVar("T")


async def chat(request: web.Request) -> web.StreamResponse:
    """POST /v1/chat/completions."""
    asked = await _asked(request, chat_request.decode, "chatcmpl-")
    call, created_s = asked.call, int(time.time())
    if call.stream:
        chunks = ChatChunks(call, created_s, include_usage=asked.include_usage)
        return await calls.stream(request, call, chunks, error.in_band)
    return await calls.plain(request, call, lambda events: reply.chat(call, created_s, events))


async def complete(request: web.Request) -> web.StreamResponse:
    """POST /v1/completions."""
    asked = await _asked(request, completion_request.decode, "cmpl-")
    call, created_s, echo = asked.call, int(time.time()), asked.echo
    if call.stream:
        chunks = CompletionChunks(call, created_s, include_usage=asked.include_usage, echo=echo)
        return await calls.stream(request, call, chunks, error.in_band)
    return await calls.plain(
        request, call, lambda events: reply.completion(call, created_s, events, echo=echo)
    )


async def embed(request: web.Request) -> web.StreamResponse:
    """POST /v1/embeddings."""
    asked = await _asked(request, embedding_request.decode, "embd-")
    return await calls.plain(request, asked.call, lambda events: vectors.embeddings(asked, events))


async def rerank(request: web.Request) -> web.StreamResponse:
    """POST /v1/rerank and /rerank."""
    asked = await _asked(request, rerank_request.decode, "rank-")
    return await calls.plain(request, asked.call, lambda events: vectors.ranking(asked, events))


async def _asked(request: web.Request, decode: Callable[..., T], prefix: str) -> T:
    return decoded(request, await body.read(request), decode, prefix, request.path)


def decoded(request: web.Request, raw: bytes, decode: Callable[..., T], prefix: str, path: str) -> T:
    """A request as one of the dialect's decoders reads its body; the call's id begins with `prefix`.

    Raises:
        CallRefused: for anything that is wrong with it.
    """
    exchange = request[EXCHANGE]
    return decode(
        raw,
        call_id=ids.sibling(exchange.request_id, prefix),
        principal=exchange.principal,
        headers=headers(request),
        path=path,
    )


async def list_models(request: web.Request) -> web.Response:
    """GET /v1/models."""
    aliases = request.app[CURRENT].generation.answers.aliases
    return responses.document(models.listing(aliases, request.app[STARTED]))


async def show_model(request: web.Request) -> web.Response:
    """GET /v1/models/{name}; a name may hold slashes."""
    name = request.match_info["name"]
    aliases = request.app[CURRENT].generation.answers.aliases
    return responses.document(models.one(name, aliases, request.app[STARTED]))


def headers(request: web.Request) -> dict[str, str]:
    """The request's headers for rules to look at, without the secret ones; repeated ones are joined.

    What is not UTF-8 is replaced: patterns and logs take text only.
    """
    lower: dict[str, str] = {}
    for name, value in request.headers.items():
        key = name.lower()
        if key not in SECRET_HEADERS:
            clean = (
                value
                if value.isascii()
                else value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            )
            lower[key] = f"{lower[key]}, {clean}" if key in lower else clean
    return lower
