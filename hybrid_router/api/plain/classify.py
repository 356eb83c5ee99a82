"""POST /v1/classify: what a picture shows, or what kind of text one is."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, Unpack

import msgspec
from aiohttp import web
from msgspec import Meta, Struct
from msgspec.structs import replace

from hybrid_router.api import body, calls, data_urls, multipart
from hybrid_router.api.openai import endpoints, malformed, reply, sender
from hybrid_router.api.openai.fields import ModelName
from hybrid_router.api.openai.sender import Sender
from hybrid_router.core.asks import Classification
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import CallRefused
from hybrid_router.core.event import Batch, Label
from hybrid_router.core.upload import Upload

Count: TypeAlias = Annotated[int, Meta(ge=1, le=1000)]
_DEFAULT_COUNT = 5
_PREFIX = "classify-"
_SIDES = ("xmin", "ymin", "xmax", "ymax")


class ClassifyBody(Struct, frozen=True, kw_only=True):
    """The fields; in a form `image` is a file, in JSON a data: URL.  `input` is a text, in its place."""

    model: ModelName
    image: str | None = None
    input: str | None = None
    top_k: Count = _DEFAULT_COUNT


class ClassifyRequest(Struct, frozen=True):
    """A call without its image yet, and the image if it is inside the body."""

    call: Call
    image: str | None


_JSON = msgspec.json.Decoder(ClassifyBody)
_FORM = msgspec.json.Decoder(ClassifyBody, strict=False)  # a form's fields are all texts
_KNOWN = frozenset(ClassifyBody.__struct_fields__)


async def classify(request: web.Request) -> web.StreamResponse:
    """POST /v1/classify, as a form or as JSON."""
    if request.content_type == "multipart/form-data":
        async with multipart.form(request) as form:
            raw = msgspec.json.encode(form.values())
            asked = endpoints.decoded(request, raw, decode_form, _PREFIX, request.path)
            return await _answered(request, asked, form.only("image", "image", "cat.jpg"))
    raw = await body.read(request)
    asked = endpoints.decoded(request, raw, decode, _PREFIX, request.path)
    if asked.image is None:
        return await calls.plain(request, asked.call, lambda events: document(asked.call, events))
    with data_urls.uploads(request, [(asked.image, "image")]) as uploads:
        return await _answered(request, asked, uploads[0])


async def _answered(request: web.Request, asked: ClassifyRequest, image: Upload) -> web.StreamResponse:
    call = replace(asked.call, uploads=(image,))
    return await calls.plain(request, call, lambda events: document(call, events))


def decode(body: bytes, **asker: Unpack[Sender]) -> ClassifyRequest:
    """Read the fields of a JSON document.

    Raises:
        CallRefused: for anything that is wrong with it.
    """
    asked = _request(_JSON, body, asker)
    if asked.image is None and not asked.call.prompts:
        raise CallRefused("image: this field is required, as a data: URL; or input, a text", param="image")
    if asked.image is not None and asked.call.prompts:
        raise CallRefused("image, input: send one of them", param="input")
    return asked


def decode_form(body: bytes, **asker: Unpack[Sender]) -> ClassifyRequest:
    """Read the fields of a form, written as JSON.

    Raises:
        CallRefused: for anything that is wrong with it.
    """
    asked = _request(_FORM, body, asker)
    if asked.image is not None:
        raise CallRefused("image: in a form it is a file; with curl: -F image=@cat.jpg", param="image")
    if asked.call.prompts:
        raise CallRefused("input: a text is classified if it is sent as JSON", param="input")
    return asked


def _request(decoder: msgspec.json.Decoder[ClassifyBody], body: bytes, asker: Sender) -> ClassifyRequest:
    asked, extra = malformed.read(decoder, _KNOWN, body)
    if asked.input is not None and not asked.input.strip():
        raise CallRefused("input: the text is empty", param="input")
    call = Call(
        operation=Operation.CLASSIFY,
        alias=asked.model,
        prompts=() if asked.input is None else (asked.input,),
        ask=Classification(top_k=asked.top_k),
        **sender.fields(asker, extra),
    )
    return ClassifyRequest(call, asked.image)


def document(call: Call, events: Batch) -> bytes:
    """The labels, the likeliest first; a label of a part of a picture with its place, in pixels.

    Raises:
        StreamBroken: the answer is not whole.
    """
    reply.check_whole(events)
    labels = [_label(event) for event in events if isinstance(event, Label)]
    return msgspec.json.encode(
        {"id": call.id, "object": "classification", "model": call.alias, "labels": labels}
    )


def _label(event: Label) -> dict[str, Any]:
    told: dict[str, Any] = {"label": event.label, "score": event.score}
    if event.box is None:
        return told
    return {**told, "box": dict(zip(_SIDES, event.box, strict=True))}
