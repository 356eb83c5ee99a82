"""POST /v1/images/generations, /edits and /variations: wire → `Call`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias, Unpack

import msgspec
from msgspec import Meta, Struct

from hybrid_router.api.multipart import Form
from hybrid_router.api.openai import malformed, sender
from hybrid_router.api.openai.fields import Fraction, ModelName
from hybrid_router.api.openai.sender import Sender
from hybrid_router.core.asks import Painting, PictureFormat
from hybrid_router.core.call import Call, Feature, Operation, Sampling
from hybrid_router.core.errors import CallRefused, UnsupportedParameter
from hybrid_router.core.upload import Upload

Prompt: TypeAlias = Annotated[str, Meta(min_length=1, max_length=32_000)]
Steps: TypeAlias = Annotated[int, Meta(ge=1, le=1000)]
Guidance: TypeAlias = Annotated[float, Meta(ge=0, le=100)]
_MULTIPLE = 8
_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})", re.ASCII)
_MOST_IMAGES = 16
# What is so anyway; any other value is one more field that a backend knows or does not.
_SO_ANYWAY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "quality": ("auto", "standard"),
        "background": ("auto", "opaque"),
        "moderation": ("auto", "low"),
    }
)


class PictureBody(Struct, frozen=True, kw_only=True):
    """Fields of all three.  From `seed` on they are ours, by the names that others have for them."""

    model: ModelName
    n: Annotated[int, Meta(ge=1, le=10)] | None = None
    size: str | None = None
    response_format: Literal["b64_json", "url"] | None = None
    output_format: PictureFormat | None = None
    output_compression: Annotated[int, Meta(ge=0, le=100)] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Meta(ge=0, le=3)] | None = None
    seed: Annotated[int, Meta(ge=-1, le=2**63 - 1)] | None = None
    steps: Steps | None = None
    num_inference_steps: Steps | None = None
    guidance_scale: Guidance | None = None
    cfg_scale: Guidance | None = None
    negative_prompt: Annotated[str, Meta(max_length=32_000)] | None = None
    strength: Fraction | None = None


class GenerationBody(PictureBody, frozen=True, kw_only=True):
    """The fields that a picture of a text is made of."""

    prompt: Prompt


class ImageReference(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A picture within JSON."""

    image_url: str | None = None
    file_id: str | None = None


class EditBody(GenerationBody, frozen=True, kw_only=True):
    """An edit's as JSON; in a form the pictures are files."""

    images: Annotated[list[ImageReference], Meta(min_length=1, max_length=_MOST_IMAGES)]
    mask: ImageReference | None = None


class ImageRequest(Struct, frozen=True):
    """A call, and how its client wants to get the pictures.

    Attributes:
        size: as the client wrote it; None: it is the model's to choose.
        by_url: they are to be fetched, instead of being in the answer.
        edits: the events of a stream are named for an edit.
    """

    call: Call
    size: str | None
    by_url: bool
    edits: bool = False

    @property
    def ask(self) -> Painting:
        """The call's details."""
        return self.call.ask if isinstance(self.call.ask, Painting) else Painting()


class EditInJson(Struct, frozen=True):
    """An edit without its files, and the data: URLs that hold them, each with the name of its field."""

    request: ImageRequest
    urls: tuple[tuple[str, str], ...]


_GENERATION = msgspec.json.Decoder(GenerationBody)
_EDIT = msgspec.json.Decoder(EditBody)
# A form's fields are all texts: "4" is a number where one is wanted.
_EDIT_FORM = msgspec.json.Decoder(GenerationBody, strict=False)
_VARIATION_FORM = msgspec.json.Decoder(PictureBody, strict=False)
_KNOWN = MappingProxyType(
    {kind: frozenset(kind.__struct_fields__) for kind in (GenerationBody, EditBody, PictureBody)}
)


def generation(body: bytes, **asker: Unpack[Sender]) -> ImageRequest:
    """Read a request for pictures of a text.

    Raises:
        CallRefused: for anything that is wrong with it.
    """
    asked, extra = malformed.read(_GENERATION, _KNOWN[GenerationBody], body)
    return _request(asked, sender.fields(asker, _told(asked, extra)), asked.prompt)


def edit(body: bytes, **asker: Unpack[Sender]) -> EditInJson:
    """Read a request to change pictures that are inside its JSON.

    Raises:
        CallRefused: for anything that is wrong with it.
    """
    asked, extra = malformed.read(_EDIT, _KNOWN[EditBody], body)
    urls = [(image.image_url or "", f"images[{i}].image_url") for i, image in enumerate(asked.images)]
    if asked.mask is not None:
        urls.append((asked.mask.image_url or "", "mask.image_url"))
    sent = sender.fields(asker, _told(asked, extra))
    request = _request(asked, sent, asked.prompt, masked=asked.mask is not None, edits=True)
    return EditInJson(request, tuple(urls))


def told_in_json(error: CallRefused) -> CallRefused:
    """An error of an edit in JSON, whose pictures are `images`: forms and engines call them `image`."""
    if error.param == "image":
        error.param, error.message = "images", f"images: {error.message.removeprefix('image: ')}"
    return error


def edit_form(form: Form, **asker: Unpack[Sender]) -> ImageRequest:
    """Read a form with pictures to be changed.

    Raises:
        CallRefused: for anything that is wrong with it.
    """
    asked, extra = malformed.read(_EDIT_FORM, _KNOWN[GenerationBody], _fields(form))
    uploads, masks = _files(form, _MOST_IMAGES), form.files.get("mask", [])
    if len(masks) > 1:
        raise CallRefused("mask: one at most", param="mask")
    sent = sender.fields(asker, _told(asked, extra))
    request = _request(asked, sent, asked.prompt, masked=bool(masks), edits=True)
    return with_files(request, (*uploads, *masks))


def variation_form(form: Form, **asker: Unpack[Sender]) -> ImageRequest:
    """Read a form with a picture of which there are to be more.

    Raises:
        CallRefused: for anything that is wrong with it.
    """
    asked, extra = malformed.read(_VARIATION_FORM, _KNOWN[PictureBody], _fields(form))
    if "mask" in form.files:
        raise CallRefused("mask: only with /v1/images/edits", param="mask")
    return with_files(_request(asked, sender.fields(asker, _told(asked, extra))), _files(form, 1))


def _request(
    asked: PictureBody, sent: dict[str, Any], *prompts: str, masked: bool = False, edits: bool = False
) -> ImageRequest:
    by_url, streams = asked.response_format == "url", bool(asked.stream)
    if by_url and streams:
        raise CallRefused(
            "response_format: a stream brings pictures itself; b64_json", param="response_format"
        )
    width, height = _size(asked.size)
    call = Call(
        operation=Operation.IMAGE,
        alias=asked.model,
        prompts=prompts,
        n=asked.n or 1,
        stream=streams,
        sampling=Sampling(seed=None if asked.seed == -1 else asked.seed),
        ask=Painting(
            width=width,
            height=height,
            steps=_either(asked, "steps", "num_inference_steps"),
            guidance=_either(asked, "guidance_scale", "cfg_scale"),
            negative=asked.negative_prompt or "",
            strength=asked.strength,
            masked=masked,
            partial_count=(asked.partial_images or 0) if streams else 0,
            format=asked.output_format or "png",
            quality=100 if asked.output_compression is None else asked.output_compression,
        ),
        **sent,
    )
    return ImageRequest(call, asked.size if width else None, by_url, edits)


def with_files(request: ImageRequest, uploads: tuple[Upload, ...]) -> ImageRequest:
    """The request with its files, and what they ask of a model."""
    feature = Feature.INPAINTING if request.ask.masked else Feature.IMAGE_INPUT
    call = msgspec.structs.replace(request.call, uploads=uploads, features=frozenset({feature}))
    return msgspec.structs.replace(request, call=call)


def _size(written: str | None) -> tuple[int, int]:
    """Width and height; 0: the model's own."""
    if written in (None, "", "auto"):
        return 0, 0
    found = _SIZE.fullmatch(written or "")
    if found is None:
        raise CallRefused("size: expected WIDTHxHEIGHT, such as 512x512, or auto", param="size")
    width, height = int(found[1]), int(found[2])
    if width % _MULTIPLE or height % _MULTIPLE:
        raise CallRefused(f"size: width and height must be multiples of {_MULTIPLE}", param="size")
    return width, height


def _either(asked: PictureBody, name: str, other: str) -> Any:
    """A field that has two names."""
    first, second = getattr(asked, name), getattr(asked, other)
    if first is not None and second is not None and first != second:
        raise CallRefused(f"{other}: not together with another {name}", param=other)
    return second if first is None else first


def _told(asked: PictureBody, extra: dict[str, Any]) -> dict[str, Any]:
    """The fields that nobody here heeds, without those that ask for what is so anyway."""
    told = {name: value for name, value in extra.items() if value not in _SO_ANYWAY.get(name, ())}
    if asked.output_compression is not None and asked.output_format in (None, "png"):
        told["output_compression"] = asked.output_compression  # nothing is lost in PNG, however small
    if asked.partial_images and not asked.stream:
        told["partial_images"] = asked.partial_images  # one document has the finished pictures alone
    return told


def _fields(form: Form) -> bytes:
    """A form's fields as JSON; one that is empty is not set."""
    return msgspec.json.encode({name: value for name, value in form.values().items() if value})


def _files(form: Form, most: int) -> tuple[Upload, ...]:
    """The files that are pictures to begin with."""
    for name in form.files:
        if name not in ("image", "mask"):
            raise UnsupportedParameter(f"{name}: only `image` and `mask` are read here", param=name)
    found = form.files.get("image", [])
    if not 1 <= len(found) <= most:
        wanted = "this field is required, as a file" if not found else f"at most {most}"
        raise CallRefused(f"image: {wanted}; with curl: -F image=@picture.png", param="image")
    return tuple(found)
