"""OpenAI's own addresses, and `compat`, which has the same for every provider."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias, Unpack

from hybrid_router.api import data_urls
from hybrid_router.api.ai_gateway.asked import Asked, Given
from hybrid_router.api.event_stream import EVENTS_TYPE
from hybrid_router.api.openai import (
    chat_request,
    completion_request,
    embedding_request,
    error,
    image_request,
    images,
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
from hybrid_router.api.openai.sender import Sender
from hybrid_router.core.errors import CallRefused, NotFound, RouterError

_Read: TypeAlias = Callable[[Given, Sender], Asked]


class OpenAI:
    """The addresses of OpenAI's API that have a codec, with or without `v1/`."""

    def asked(self, given: Given, **sender: Unpack[Sender]) -> Asked:
        """See `asked.Provider`."""
        endpoint = given.endpoint.removeprefix("v1/")
        forms = _OF_FORMS if given.form is not None else _OF_JSON
        if (read := forms.get(endpoint)) is None:
            raise NotFound(f"{endpoint[:128]!r} is not answered here; one of {', '.join(sorted(forms))}")
        return read(given, sender)

    def failure(self, error_: RouterError) -> bytes:
        """See `asked.Provider`."""
        return error.document(error_)


def _chat(given: Given, sender: Sender) -> Asked:
    asked = chat_request.decode(given.body, **sender)
    call, created_s = asked.call, int(time.time())
    return Asked(
        call=call,
        document=lambda events: reply.chat(call, created_s, events),
        chunks=ChatChunks(call, created_s, include_usage=asked.include_usage) if call.stream else None,
        in_band=error.in_band,
    )


def _completion(given: Given, sender: Sender) -> Asked:
    asked = completion_request.decode(given.body, **sender)
    call, created_s, echo = asked.call, int(time.time()), asked.echo
    chunks = CompletionChunks(call, created_s, include_usage=asked.include_usage, echo=echo)
    return Asked(
        call=call,
        document=lambda events: reply.completion(call, created_s, events, echo=echo),
        chunks=chunks if call.stream else None,
        in_band=error.in_band,
    )


def _embeddings(given: Given, sender: Sender) -> Asked:
    asked = embedding_request.decode(given.body, **sender)
    return Asked(call=asked.call, document=lambda events: vectors.embeddings(asked, events))


def _rerank(given: Given, sender: Sender) -> Asked:
    asked = rerank_request.decode(given.body, **sender)
    return Asked(call=asked.call, document=lambda events: vectors.ranking(asked, events))


def _speech(given: Given, sender: Sender) -> Asked:
    asked = speech_request.decode(given.body, **sender)
    return Asked(
        call=asked.call,
        document=lambda events: speech.SoundBytes().encode(events),
        chunks=speech.SoundEvents() if asked.events else speech.SoundBytes(),
        in_band=error.in_band if asked.events else None,
        stream_type=EVENTS_TYPE if asked.events else speech.CONTENT_TYPES[asked.ask.format],
    )


def _moderation(given: Given, sender: Sender) -> Asked:
    asked = moderation_request.decode(given.body, **sender)
    call = asked.with_files(given.stack.enter_context(data_urls.uploads(given.request, asked.images)))
    return Asked(call=call, document=lambda events: moderations.document(call, asked, events))


def _generation(given: Given, sender: Sender) -> Asked:
    return _painted(given, image_request.generation(given.body, **sender))


def _edit(given: Given, sender: Sender) -> Asked:
    asked = image_request.edit(given.body, **sender)
    uploads = given.stack.enter_context(data_urls.uploads(given.request, asked.urls))
    try:
        return _painted(given, image_request.with_files(asked.request, uploads))
    except CallRefused as refused:
        raise image_request.told_in_json(refused) from None


def _painted(given: Given, asked: ImageRequest) -> Asked:
    created_s = int(time.time())

    def address(content: bytes) -> str:
        return images.kept(given.request, content)

    return Asked(
        call=asked.call,
        document=lambda events: pictures.document(asked, created_s, events, address),
        chunks=pictures.PictureChunks(asked, created_s) if asked.call.stream else None,
        in_band=error.in_band,
    )


def _edit_form(given: Given, sender: Sender) -> Asked:
    return _painted(given, image_request.edit_form(given.form, **sender))  # type: ignore[arg-type]


def _variation_form(given: Given, sender: Sender) -> Asked:
    return _painted(given, image_request.variation_form(given.form, **sender))  # type: ignore[arg-type]


def _transcription(given: Given, sender: Sender) -> Asked:
    return _written(transcription_request.transcription, given, sender)


def _translation(given: Given, sender: Sender) -> Asked:
    return _written(transcription_request.translation, given, sender)


def _written(decode: Callable[..., Any], given: Given, sender: Sender) -> Asked:
    asked = decode(given.form, **sender)
    return Asked(
        call=asked.call,
        document=lambda events: transcripts.document(asked, events),
        media_type=transcripts.content_type(asked),
        chunks=transcripts.TranscriptChunks() if asked.call.stream else None,
        in_band=error.in_band,
    )


_OF_JSON: Mapping[str, _Read] = MappingProxyType({
    "chat/completions": _chat,
    "completions": _completion,
    "embeddings": _embeddings,
    "rerank": _rerank,
    "audio/speech": _speech,
    "images/generations": _generation,
    "images/edits": _edit,
    "moderations": _moderation,
})  # fmt: skip
_OF_FORMS: Mapping[str, _Read] = MappingProxyType({
    "audio/transcriptions": _transcription,
    "audio/translations": _translation,
    "images/edits": _edit_form,
    "images/variations": _variation_form,
})  # fmt: skip
