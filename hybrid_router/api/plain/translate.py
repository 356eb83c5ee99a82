"""POST /v1/translate: texts in another language."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, Unpack

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from hybrid_router.api import body, calls
from hybrid_router.api.openai import endpoints, malformed, reply, sender
from hybrid_router.api.openai.fields import ModelName
from hybrid_router.api.openai.sender import Sender
from hybrid_router.core.asks import Translation
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import CallRefused
from hybrid_router.core.event import Batch, Label

MOST_INPUTS = 128
# ISO 639-1, or as a model writes it: zh, pt-BR, zho_Hans.
Language: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z]{2,3}([_-][A-Za-z0-9]{2,8}){0,2}\Z")]


class TranslateBody(Struct, frozen=True, kw_only=True):
    """The fields; `source` left out: it is found out."""

    model: ModelName
    input: str | list[str]
    target: Language
    source: Language | None = None


_DECODER = msgspec.json.Decoder(TranslateBody)
_KNOWN = frozenset(TranslateBody.__struct_fields__)


async def translate(request: web.Request) -> web.StreamResponse:
    """POST /v1/translate."""
    call = endpoints.decoded(request, await body.read(request), decode, "translate-", request.path)
    return await calls.plain(request, call, lambda events: document(call, events))


def decode(body: bytes, **asker: Unpack[Sender]) -> Call:
    """Read a request.

    Raises:
        CallRefused: for anything that is wrong with it.
    """
    asked, extra = malformed.read(_DECODER, _KNOWN, body)
    inputs = (asked.input,) if isinstance(asked.input, str) else tuple(asked.input)
    if not 1 <= len(inputs) <= MOST_INPUTS:
        raise CallRefused(f"input: expected 1 to {MOST_INPUTS} texts", param="input")
    if not all(text.strip() for text in inputs):
        raise CallRefused("input: an empty text has no translation", param="input")
    return Call(
        operation=Operation.TRANSLATE,
        alias=asked.model,
        prompts=inputs,
        ask=Translation(target=asked.target, source=asked.source),
        **sender.fields(asker, extra),
    )


def document(call: Call, events: Batch) -> bytes:
    """The translations, in the order of the inputs, each with its source if that was found out or told.

    Raises:
        StreamBroken: one is missing.
    """
    choices, usage = reply.fold(call, events)
    sources = {event.index: event.label for event in events if isinstance(event, Label)}
    told = call.ask.source if isinstance(call.ask, Translation) else None
    translations = [
        {"index": index, "text": "".join(choice.text), "source": sources.get(index, told)}
        for index, choice in enumerate(choices)
    ]
    out: dict[str, Any] = {
        "id": call.id,
        "object": "translation",
        "model": call.alias,
        "translations": translations,
    }
    if usage is not None:
        out["usage"] = reply.usage_fields(usage)
    return msgspec.json.encode(out)
