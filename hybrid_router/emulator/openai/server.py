"""OpenAI's addresses: the dialect read and written by the same code as the router's own, and then faults."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from hybrid_router.api.openai import (
    chat_request,
    completion_request,
    embedding_request,
    image_request,
    moderation_request,
    moderations,
    pictures,
    reply,
    rerank_request,
    speech,
    speech_request,
    transcription_request,
    transcripts,
    vectors,
)
from hybrid_router.api.openai.chunks import ChatChunks, CompletionChunks
from hybrid_router.api.openai.image_request import ImageRequest
from hybrid_router.api.workers_ai.refusal import Refusal
from hybrid_router.core import ids
from hybrid_router.core.call import Call
from hybrid_router.core.event import Sound
from hybrid_router.core.sse import Decoder
from hybrid_router.emulator.delivery import Delivery
from hybrid_router.emulator.openai.forms import form_of, uploaded
from hybrid_router.emulator.settings import Settings
from hybrid_router.emulator.stage import Answering, RunningCloud, Stage, note, on_stage

T = TypeVar("T")
_EVENT_LIMIT_BYTES = 2**20
_JSON = "application/json"
_DONE = b"[DONE]"
_CODES = {429: "rate_limit_exceeded", 401: "invalid_api_key", 404: "model_not_found"}


def failed(refusal: Refusal) -> dict[str, Any]:
    """An error as OpenAI writes it."""
    kind = "invalid_request_error" if refusal.status < 500 else "server_error"  # noqa: PLR2004
    code = _CODES.get(refusal.status)
    return {"error": {"message": refusal.message, "type": kind, "param": None, "code": code}}


def serve(settings: Settings) -> AbstractAsyncContextManager[RunningCloud]:
    """Serve below `/v1`; see `emulator.stage.on_stage`."""
    return on_stage(Stage(settings, failed), [(f"/v1/{path}", answer) for path, answer in _ADDRESSES])


async def chat(stage: Stage, request: web.Request, delivery: Delivery) -> web.StreamResponse:
    """POST /v1/chat/completions."""
    asked = await _read(request, chat_request.decode)
    call, created_s = asked.call, int(time.time())
    if call.stream:
        chunks = ChatChunks(call, created_s, include_usage=asked.include_usage)
        return await _streamed(stage, call, chunks, delivery)
    return await _whole(reply.chat(call, created_s, await stage.events(call)), delivery)


async def complete(stage: Stage, request: web.Request, delivery: Delivery) -> web.StreamResponse:
    """POST /v1/completions."""
    asked = await _read(request, completion_request.decode)
    call, created_s = asked.call, int(time.time())
    if call.stream:
        chunks = CompletionChunks(call, created_s, include_usage=asked.include_usage, echo=asked.echo)
        return await _streamed(stage, call, chunks, delivery)
    events = await stage.events(call)
    return await _whole(reply.completion(call, created_s, events, echo=asked.echo), delivery)


async def embed(stage: Stage, request: web.Request, delivery: Delivery) -> web.StreamResponse:
    """POST /v1/embeddings."""
    asked = await _read(request, embedding_request.decode)
    return await _whole(vectors.embeddings(asked, await stage.events(asked.call)), delivery)


async def rerank(stage: Stage, request: web.Request, delivery: Delivery) -> web.StreamResponse:
    """POST /v1/rerank."""
    asked = await _read(request, rerank_request.decode)
    return await _whole(vectors.ranking(asked, await stage.events(asked.call)), delivery)


async def moderate(stage: Stage, request: web.Request, delivery: Delivery) -> web.StreamResponse:
    """POST /v1/moderations."""
    asked = await _read(request, moderation_request.decode)
    images = (base64.b64decode(url.partition(",")[2]) for url, _ in asked.images)
    with uploaded(images) as files:
        call = asked.with_files(files)
        return await _whole(moderations.document(call, asked, await stage.events(call)), delivery)


async def speak(stage: Stage, request: web.Request, delivery: Delivery) -> web.StreamResponse:
    """POST /v1/audio/speech."""
    asked = await _read(request, speech_request.decode)
    content = b"".join(one.content for one in await stage.events(asked.call) if isinstance(one, Sound))
    return await delivery.whole(content, speech.CONTENT_TYPES[asked.ask.format], in_pieces=True)


async def draw(stage: Stage, request: web.Request, delivery: Delivery) -> web.StreamResponse:
    """POST /v1/images/generations."""
    return await _drawn(stage, await _read(request, image_request.generation), delivery)


async def edit(stage: Stage, request: web.Request, delivery: Delivery) -> web.StreamResponse:
    """POST /v1/images/edits and /variations, as a form."""
    decode = image_request.edit_form if request.path.endswith("edits") else image_request.variation_form
    async with form_of(request) as form:
        return await _drawn(stage, decode(form, **_asker(request)), delivery)


async def hear(stage: Stage, request: web.Request, delivery: Delivery) -> web.StreamResponse:
    """POST /v1/audio/transcriptions and /translations."""
    translates = request.path.endswith("translations")
    decode = transcription_request.translation if translates else transcription_request.transcription
    async with form_of(request) as form:
        asked = decode(form, **_asker(request))
        document = transcripts.document(asked, await stage.events(asked.call))
        return await delivery.whole(document, transcripts.content_type(asked).partition(";")[0])


_ADDRESSES: tuple[tuple[str, Answering], ...] = (
    ("chat/completions", chat),
    ("completions", complete),
    ("embeddings", embed),
    ("rerank", rerank),
    ("moderations", moderate),
    ("audio/speech", speak),
    ("audio/transcriptions", hear),
    ("audio/translations", hear),
    ("images/generations", draw),
    ("images/edits", edit),
    ("images/variations", edit),
)


async def _drawn(stage: Stage, asked: ImageRequest, delivery: Delivery) -> web.StreamResponse:
    events = await stage.events(asked.call)
    return await _whole(pictures.document(asked, int(time.time()), events, _nowhere), delivery)


def _nowhere(content: bytes) -> str:
    return "http://127.0.0.1:9/picture"


def _asker(request: web.Request) -> dict[str, Any]:
    return {"call_id": ids.new("emulated-"), "principal": "emulated", "headers": {}, "path": request.path}


async def _read(request: web.Request, decode: Callable[..., T]) -> T:
    """A body as one of the dialect's decoders reads it, noted without its secrets."""
    raw = await request.read()
    asked = decode(raw, **_asker(request))
    note(request, msgspec.json.decode(raw))
    return asked


async def _whole(document: bytes, delivery: Delivery) -> web.StreamResponse:
    return await delivery.whole(document, _JSON)


async def _streamed(
    stage: Stage, call: Call, chunks: ChatChunks | CompletionChunks, delivery: Delivery
) -> web.StreamResponse:
    async def documents() -> AsyncGenerator[msgspec.Raw]:
        decoder = Decoder(_EVENT_LIMIT_BYTES)
        async with aclosing(stage.batches(call)) as batches:
            async for batch in batches:
                for document in _split(decoder, chunks.encode(batch)):
                    yield document
        for document in _split(decoder, chunks.end()):
            yield document

    return await delivery.stream(documents())


def _split(decoder: Decoder, written: bytes) -> list[msgspec.Raw]:
    """The documents of some events; the end mark is the delivery's to write."""
    return [msgspec.Raw(payload) for payload in decoder.feed(written) if payload != _DONE]
