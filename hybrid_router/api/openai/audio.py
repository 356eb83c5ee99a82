"""The OpenAI dialect's addresses for recordings: decode, have it answered, encode."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from hybrid_router.api import calls, multipart
from hybrid_router.api.exchange import EXCHANGE
from hybrid_router.api.openai import endpoints, error, transcription_request, transcripts
from hybrid_router.api.openai.transcription_request import TranscriptionRequest
from hybrid_router.core import ids


async def transcribe(request: web.Request) -> web.StreamResponse:
    """POST /v1/audio/transcriptions."""
    return await _written(request, transcription_request.transcription)


async def translate(request: web.Request) -> web.StreamResponse:
    """POST /v1/audio/translations."""
    return await _written(request, transcription_request.translation)


async def _written(request: web.Request, decode: Callable[..., TranscriptionRequest]) -> web.StreamResponse:
    """Read the form and answer while its file is there."""
    exchange = request[EXCHANGE]
    async with multipart.form(request) as form:
        asked = decode(
            form,
            call_id=ids.sibling(exchange.request_id, "transcript-"),
            principal=exchange.principal,
            headers=endpoints.headers(request),
            path=request.path,
        )
        if asked.call.stream:
            return await calls.stream(request, asked.call, transcripts.TranscriptChunks(), error.in_band)
        return await calls.plain(
            request,
            asked.call,
            lambda events: transcripts.document(asked, events),
            transcripts.content_type(asked),
        )
