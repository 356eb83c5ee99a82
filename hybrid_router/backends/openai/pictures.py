"""Pictures: of a text, or made from others."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from msgspec import Struct

from hybrid_router.backends.errand import Errand, Reader, Unreadable
from hybrid_router.backends.forms import File, FormBody
from hybrid_router.backends.openai.chat import Manner, extra
from hybrid_router.backends.openai.reply import TokenCounts, each_finished, read
from hybrid_router.backends.readers import Whole
from hybrid_router.core.asks import Painting
from hybrid_router.core.call import Call
from hybrid_router.core.errors import Inexpressible
from hybrid_router.core.event import Batch, Picture

_BYTES_ALWAYS = ("gpt-image", "chatgpt-image")  # they know no response_format, and know output_format


class _Drawn(Struct, gc=False):
    b64_json: str | None = None


class _Pictures(Struct):
    data: list[_Drawn]
    usage: TokenCounts | None = None


def pictures(call: Call, model: str, manner: Manner) -> list[tuple[Errand, Reader]]:
    """One request for all pictures of a call."""
    ask = call.ask if isinstance(call.ask, Painting) else Painting()
    fields = {"model": model, **_fields(call, model, ask, manner), **extra(call, manner)}
    if call.uploads:
        errand = _edit(call, ask, fields)
    else:
        errand = Errand(path="images/generations", body=msgspec.json.encode(fields))
    return [(errand, Whole(lambda body: _drawn(body, call.n)))]


def _fields(call: Call, model: str, ask: Painting, manner: Manner) -> dict[str, Any]:
    modern = model.startswith(_BYTES_ALWAYS)
    formatted = ask.format != "png"
    fields: dict[str, Any] = {
        "prompt": call.prompts[0] if call.prompts else None,
        "n": call.n if call.n > 1 else None,
        "size": f"{ask.width}x{ask.height}" if ask.width and ask.height else None,
        "response_format": None if modern else "b64_json",
        "output_format": ask.format if formatted and (modern or not manner.strict) else None,
        "output_compression": ask.quality if formatted and modern else None,
    }
    told = {name: value for name, value in fields.items() if value is not None}
    return told | _beyond_openai(call, ask, manner)


def _beyond_openai(call: Call, ask: Painting, manner: Manner) -> dict[str, Any]:
    """What other servers know besides."""
    fields = {
        "steps": ask.steps,
        "guidance_scale": ask.guidance,
        "negative_prompt": ask.negative or None,
        "strength": ask.strength,
        "seed": call.sampling.seed,
    }
    told = {name: value for name, value in fields.items() if value is not None}
    if told and manner.strict:
        raise Inexpressible(f"{manner.label} takes no `{next(iter(told))}`")
    return told


def _edit(call: Call, ask: Painting, fields: dict[str, Any]) -> Errand:
    """A form: the pictures, and the mask last among the uploads."""
    images = call.uploads[:-1] if ask.masked else call.uploads
    name = "image" if len(images) == 1 else "image[]"
    files = [File(name, each, each.name or "image.png") for each in images]
    if ask.masked:
        files.append(File("mask", call.uploads[-1], call.uploads[-1].name or "mask.png"))
    body = FormBody([(field, str(value)) for field, value in fields.items()], files)
    path = "images/edits" if call.prompts else "images/variations"
    return Errand(path=path, body=body, media_type=body.media_type)


def _drawn(body: bytes, count: int) -> Batch:
    told = read(body, _Pictures)
    if len(told.data) != count:
        raise Unreadable(f"drew {len(told.data)} pictures, and {count} were asked for")
    events: Batch = [Picture(_bytes(one), index) for index, one in enumerate(told.data)]
    return [*events, *each_finished(count, told.usage)]


def _bytes(one: _Drawn) -> bytes:
    """A picture's file.  One that is told by its address is not fetched: that may be anywhere."""
    if not one.b64_json:
        raise Unreadable("told where a picture is instead of sending it")
    try:
        return base64.b64decode(one.b64_json, validate=True)
    except ValueError as error:
        raise Unreadable("sent a picture that is none", detail=str(error)) from None
