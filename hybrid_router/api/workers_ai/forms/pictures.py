"""Pictures: a prompt as JSON or as a form → a bare file, or base64 in the envelope."""

from __future__ import annotations

import base64
from contextlib import ExitStack
from typing import Annotated, Unpack

import msgspec
from msgspec import Meta, Struct

from hybrid_router.api import gallery
from hybrid_router.api.openai import sender as senders
from hybrid_router.api.openai.sender import Sender
from hybrid_router.api.workers_ai.form import Given, Reply
from hybrid_router.api.workers_ai.forms import fields
from hybrid_router.api.workers_ai.forms.plain import Plain, enveloped
from hybrid_router.core.asks import Painting, PictureFormat
from hybrid_router.core.call import Call, Operation, Sampling
from hybrid_router.core.errors import CallRefused, StreamBroken
from hybrid_router.core.event import Batch, Finish, Picture
from hybrid_router.core.upload import Upload

Pixels = Annotated[int, Meta(ge=64, le=4096)]
Steps = Annotated[int, Meta(ge=1, le=200)]
_FORM_WIDTH, _FORM_HEIGHT = 1024, 768
_FORM_FILES = ("input_image_0", "input_image_1", "input_image_2", "input_image_3")


class _Wanted(Struct, frozen=True, kw_only=True):
    prompt: Annotated[str, Meta(min_length=1)]
    negative_prompt: str = ""
    width: Pixels | None = None
    height: Pixels | None = None
    num_steps: Steps | None = None
    steps: Steps | None = None
    guidance: float | None = None
    strength: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: int | None = None


class _WithPictures(_Wanted, frozen=True, kw_only=True):
    image: list[int] | str | None = None
    image_b64: str | None = None
    mask: list[int] | None = None


class PictureBytes(Plain):
    """A model that answers with the file itself, in the format it makes."""

    def __init__(self, format_: PictureFormat) -> None:
        self._format = format_

    def call(self, given: Given, **sender: Unpack[Sender]) -> Call:
        """See `form.Form`."""
        return _from_json(given, self._format, sender)

    def reply(self, given: Given, call: Call, events: Batch) -> Reply:
        """See `form.Form`.  The type is the file's own, whatever was asked for."""
        content = _whole(events)
        return Reply(content=content, media_type=gallery.media_type(content))

    def media_type(self, given: Given, call: Call) -> str:
        """Of the file, if it is what was asked for."""
        return f"image/{self._format}"


class PictureBase64(Plain):
    """A model that answers `{"image": base64}`, mostly a JPEG."""

    def call(self, given: Given, **sender: Unpack[Sender]) -> Call:
        """See `form.Form`."""
        return _from_json(given, "jpeg", sender)

    def reply(self, given: Given, call: Call, events: Batch) -> Reply:
        """See `form.Form`."""
        image = base64.b64encode(_whole(events)).decode()
        return enveloped({"image": image})


class PictureForm(PictureBase64):
    """The same, asked by a multipart form even for text alone; numbers come as text."""

    def call(self, given: Given, **sender: Unpack[Sender]) -> Call:
        """See `form.Form`."""
        if given.body is None:
            raise CallRefused("this model takes a multipart/form-data body with a field 'prompt'", param="/")
        wanted, extra = fields.read(given, _Wanted, strict=False)
        files = tuple(given.files[name] for name in _FORM_FILES if name in given.files)
        ask = _painting(wanted, "jpeg", masked=False)
        ask = msgspec.structs.replace(ask, width=ask.width or _FORM_WIDTH, height=ask.height or _FORM_HEIGHT)
        return _call(given.model, wanted, ask, files, extra=extra, sender=sender)


def _from_json(given: Given, format_: PictureFormat, sender: Sender) -> Call:
    wanted, extra = fields.read(given, _WithPictures)
    with ExitStack() as unless_refused:
        files: list[Upload] = []
        for value, name in _files(wanted):
            files.append(fields.enclosed(value, name))
            unless_refused.callback(files[-1].close)
        if wanted.mask is not None and len(files) == 1:
            raise CallRefused("'/mask' needs an '/image' beside it", param="/mask")
        ask = _painting(wanted, format_, masked=wanted.mask is not None)
        call = _call(given.model, wanted, ask, tuple(files), extra=extra, sender=sender)
        unless_refused.pop_all()
        return call


def _files(wanted: _WithPictures) -> list[tuple[list[int] | str, str]]:
    """The files inside the body, the mask last."""
    images = [(wanted.image, "image"), (wanted.image_b64, "image_b64")]
    found: list[tuple[list[int] | str, str]] = [(value, name) for value, name in images if value][:1]
    return [*found, (wanted.mask, "mask")] if wanted.mask is not None else found


def _painting(wanted: _Wanted, format_: PictureFormat, *, masked: bool) -> Painting:
    return Painting(
        width=wanted.width or 0,
        height=wanted.height or 0,
        steps=wanted.num_steps or wanted.steps,
        guidance=wanted.guidance,
        negative=wanted.negative_prompt,
        strength=wanted.strength,
        masked=masked,
        format=format_,
    )


def _call(
    model: str,
    wanted: _Wanted,
    ask: Painting,
    files: tuple[Upload, ...],
    *,
    extra: dict[str, object],
    sender: Sender,
) -> Call:
    return Call(
        operation=Operation.IMAGE,
        alias=model,
        prompts=(wanted.prompt,),
        sampling=Sampling(seed=wanted.seed),
        ask=ask,
        uploads=files,
        **senders.fields(sender, extra),
    )


def _whole(events: Batch) -> bytes:
    """The finished picture.

    Raises:
        StreamBroken: there is none.
    """
    found = [event.content for event in events if isinstance(event, Picture) and event.partial is None]
    if not found or not any(isinstance(event, Finish) for event in events):
        raise StreamBroken("the answer lacks its picture")
    return found[0]
