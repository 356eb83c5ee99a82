"""An input for one of Workers AI's models, answered by an alias of this router."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from aiohttp import web
from msgspec.structs import replace

from hybrid_router.api import calls, responses
from hybrid_router.api.exchange import EXCHANGE
from hybrid_router.api.generation import CURRENT
from hybrid_router.api.keep_alive import PING, SPACE, Waiting, finished
from hybrid_router.api.multipart import SHELF
from hybrid_router.api.openai import endpoints
from hybrid_router.api.openai import error as openai_error
from hybrid_router.api.openai.sender import Sender
from hybrid_router.api.workers_ai import error, names
from hybrid_router.api.workers_ai.directory import DIRECTORY
from hybrid_router.api.workers_ai.form import Form, Given, Reply
from hybrid_router.api.workers_ai.forms.table import form_of
from hybrid_router.api.workers_ai.names import NoSuchModel
from hybrid_router.catalogue.families import Family
from hybrid_router.core import ids
from hybrid_router.core.call import Call
from hybrid_router.core.errors import RouterError
from hybrid_router.core.event import Batch

_EMBEDDINGS = "/embeddings"


async def answer(
    request: web.Request, given: Given, headers: dict[str, str] | None = None
) -> web.StreamResponse:
    """Answer `given` in the form that its model has.

    Args:
        headers: those of the call; None: the request's.

    Raises:
        RouterError: before anything was sent.
    """
    family = _family(request, given)
    form = form_of(family, is_known=given.model in request.app[DIRECTORY].models)
    if form is None:
        raise NoSuchModel(f"No such model {given.model} or task here: {_why_not(family)}", param="model")
    alias = alias_of(request, given.model)
    call = form.call(given, **_sender(request, headers))
    with ExitStack() as afterwards:
        _keep(request, given, call, afterwards)
        return await _answered(request, form, given, replace(call, alias=alias))


def alias_of(request: web.Request, model: str) -> str:
    """The alias that answers for `model`.

    Raises:
        NoSuchModel: there is none.
    """
    generation = request.app[CURRENT].generation
    return names.alias_of(
        model,
        generation.answers.aliases,
        generation.fronts.dialects.workers_ai,
        request.app[DIRECTORY].models,
    )


def _family(request: web.Request, given: Given) -> Family:
    """OpenAI's addresses tell by themselves how they are asked."""
    if given.openai:
        return Family.VECTORS if request.path.endswith(_EMBEDDINGS) else Family.CHAT
    return names.family_of(given.model, request.app[DIRECTORY].models, given.body)


def _why_not(family: Family) -> str:
    if family is Family.DECISION:
        return "no model here tells the probabilities of its decisions; ask one for JSON by a schema instead"
    return "it is spoken through a WebSocket alone, which is not offered"


def _sender(request: web.Request, headers: dict[str, str] | None) -> Sender:
    exchange = request[EXCHANGE]
    return {
        "call_id": ids.sibling(exchange.request_id, "run-"),
        "principal": exchange.principal,
        "headers": endpoints.headers(request) if headers is None else headers,
        "path": request.path,
    }


def _keep(request: web.Request, given: Given, call: Call, afterwards: ExitStack) -> None:
    """Count the files that were inside the document as others are, and let go of them in the end."""
    came = {upload.fd for upload in (*given.files.values(), *filter(None, (given.content,)))}
    made = [upload for upload in call.uploads if upload.fd not in came]
    for upload in made:
        afterwards.callback(upload.close)
    shelf, server = request.app[SHELF], request.app[CURRENT].generation.server
    for upload in made:
        shelf.take(upload.size_bytes, server)
        afterwards.callback(shelf.give_back, upload.size_bytes)


async def _answered(request: web.Request, form: Form, given: Given, call: Call) -> web.StreamResponse:
    media_type, chunks = form.media_type(given, call), form.chunks(given, call)
    is_events = media_type.startswith("text/event-stream")
    sign = PING if is_events else SPACE if media_type == responses.JSON else b""
    async with Waiting(request, sign, media_type) as waiting:
        try:
            if chunks is None:
                return await _whole(request, form, given, call, waiting)
            in_band = _in_band(given) if is_events else None
            return await calls.stream(request, call, chunks, in_band, media_type, waiting=waiting)
        except RouterError as failure:
            return await waiting.failed(failure, _event if is_events else None)


async def _whole(
    request: web.Request, form: Form, given: Given, call: Call, waiting: Waiting
) -> web.StreamResponse:
    """One document or file; its type is known once it is there."""
    reply = Reply(content=b"")

    def encode(events: Batch) -> bytes:
        nonlocal reply
        reply = form.reply(given, call, events)
        return reply.content

    response = await calls.plain(request, call, encode)
    sent = await waiting.over()
    if sent is not None:
        return await finished(sent, reply.content)
    response.headers["content-type"] = reply.media_type
    return response


def _in_band(given: Given) -> Callable[[RouterError], bytes]:
    return openai_error.in_band if given.openai else _native_in_band


def _native_in_band(failure: RouterError) -> bytes:
    """The last event of a stream that broke; the API has none for it, so it is the envelope."""
    return _event(error.document(failure))


def _event(document: bytes) -> bytes:
    return b"data: " + document + b"\n\n"
