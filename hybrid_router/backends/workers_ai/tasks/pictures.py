"""Pictures: a request for each, in JSON or as a form; bytes come back, or base64."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any, TypeAlias

from msgspec import Struct

from hybrid_router.backends.errand import Errand, Unreadable
from hybrid_router.backends.workers_ai.tasks import bodies, masks, picture_file, results
from hybrid_router.backends.workers_ai.tasks.easels import Easel, easel
from hybrid_router.backends.workers_ai.tasks.sending import in_order, value
from hybrid_router.backends.workers_ai.tasks.task import Asked, Send
from hybrid_router.catalogue.families import Family
from hybrid_router.core.asks import Painting
from hybrid_router.core.call import Call, Feature
from hybrid_router.core.errors import NotAble
from hybrid_router.core.event import Batch, Finish, Picture, Progress
from hybrid_router.core.upload import Upload

MOST_AT_ONCE = 4
MOST_BYTES = 10 * 2**20  # of a picture that is sent
_WHAT = "a picture"
_TYPES = ("image/", "application/octet-stream", "application/json")
_KIND_BYTES = 16
_HEAD_BYTES = 2**20  # where a file's size stands, even behind large remarks
Painted: TypeAlias = tuple[bytes, Batch]


class _Base64(Struct, gc=False):
    image: str


class Paint:
    """IMAGE."""

    def features(self, family: Family, model: str) -> frozenset[Feature]:
        """Whether it begins with pictures, and with a mask."""
        able = easel(family, model)
        if not able.images_count:
            return frozenset()
        return frozenset({Feature.INPAINTING if able.masked else Feature.IMAGE_INPUT})

    async def run(self, asked: Asked, send: Send) -> AsyncGenerator[Batch]:
        """A few requests at a time.  See `Task`.

        Pictures of a stream are told as they come, in their order; all others once the last is there, so
        that another step may make them all where one fails.
        """
        works = [partial(_painted, send, errand) for errand in errands(asked)]
        held: Batch = []
        index = 0
        async with aclosing(in_order(works, MOST_AT_ONCE)) as made:
            async for content, remarks in made:
                picture: Batch = [Picture(content, index), Finish("stop", index)]
                index += 1
                if asked.call.stream:
                    yield [*remarks, *picture]
                    continue
                held += picture
                yield [*remarks, Progress(index / len(works))]
        if held:
            yield held


def details(call: Call) -> Painting:
    """What the call asks for."""
    return call.ask if isinstance(call.ask, Painting) else Painting()


def errands(asked: Asked) -> list[Errand]:
    """A request for each picture, with a seed of its own.

    Raises:
        NotAble: the model makes none of that kind; the message names the field.
    """
    able, call, ask = easel(asked.family, asked.model), asked.call, details(asked.call)
    images, mask = call.uploads, None
    if ask.masked:
        images, mask = call.uploads[:-1], call.uploads[-1]
    fields = _fields(asked, able, ask)
    _check_images(asked, able, images)
    files: dict[str, Upload | bodies.Numbers] = {"image_b64": images[0]} if images else {}
    if mask is not None:
        _check_mask(asked, images[0], mask)
        files["mask"] = bodies.Numbers(masks.white_where_transparent(mask))
    seed = call.sampling.seed
    if seed is not None and not able.seed:
        raise NotAble(f"{asked.model} knows no `seed`", param="seed")
    seeds = [{} if seed is None else {"seed": seed + index} for index in range(call.n)]
    if asked.family is Family.PICTURE_FORM:
        typed = {f"input_image_{i}": (image, f"image/{_kind(image)}") for i, image in enumerate(images)}
        return [bodies.form(asked.model, _texts(fields | own), typed) for own in seeds]
    return [bodies.document_with(asked.model, fields | own, files) for own in seeds]


def decode(body: bytes) -> bytes:
    """The picture in a reply, which is the file itself or holds it as base64.

    Raises:
        Unreadable: it is none, or not a whole one.
    """
    content = body
    if picture_file.kind(body) is None:
        content = results.from_base64(results.read(body, _Base64, _WHAT).image, _WHAT)
    if picture_file.kind(content) is None:
        raise Unreadable(f"answered without {_WHAT}", detail=content[:8].hex())
    if not picture_file.is_whole(content):
        raise Unreadable("sent a picture that is cut off")
    return content


async def _painted(send: Send, errand: Errand) -> Painted:
    return await value(send, errand, decode, _TYPES)


def _texts(fields: dict[str, Any]) -> dict[str, str]:
    return {name: str(field) for name, field in fields.items()}


def _fields(asked: Asked, able: Easel, ask: Painting) -> dict[str, Any]:
    prompt = asked.call.prompts[0] if asked.call.prompts else ""
    if not isinstance(prompt, str) or not prompt:
        raise NotAble(f"prompt: {asked.model} makes no pictures without one", param="prompt")
    if able.most_characters is not None and len(prompt) > able.most_characters:
        raise NotAble(
            f"prompt: {asked.model} reads {able.most_characters} characters at most", param="prompt"
        )
    fields: dict[str, Any] = {"prompt": prompt, **_size(asked, able, ask)}
    if ask.steps is not None:
        if ask.steps > able.most_steps:
            raise NotAble(f"steps: {asked.model} takes {able.most_steps} at most", param="steps")
        fields[able.steps] = ask.steps
    wishes: tuple[tuple[str, str, Any, bool], ...] = (
        ("guidance", "guidance_scale", ask.guidance, able.guidance),
        ("negative_prompt", "negative_prompt", ask.negative or None, able.negative),
        ("strength", "strength", ask.strength, able.strength),
    )
    for name, param, wish, is_known in wishes:
        if wish is None:
            continue
        if not is_known:
            raise NotAble(f"{asked.model} knows no `{param}`", param=param)
        fields[name] = wish
    return fields


def _size(asked: Asked, able: Easel, ask: Painting) -> dict[str, int]:
    if not ask.width:
        return {}
    if able.own is not None:
        if (ask.width, ask.height) != able.own:
            only = f"{able.own[0]}x{able.own[1]}"
            raise NotAble(f"size: {asked.model} makes {only} alone", param="size")
        return {}
    if not all(able.least <= length <= able.most for length in (ask.width, ask.height)):
        raise NotAble(f"size: {asked.model} makes {able.least} to {able.most} pixels, each way", param="size")
    return {"width": ask.width, "height": ask.height}


def _check_images(asked: Asked, able: Easel, images: tuple[Upload, ...]) -> None:
    if len(images) > able.images_count:
        raise NotAble(f"image: {asked.model} takes {able.images_count or 'no'} pictures", param="image")
    for image in images:
        if image.size_bytes > MOST_BYTES:
            raise NotAble(f"image: Workers AI takes {MOST_BYTES} bytes at most", param="image")
        found = _measured(image)
        if _kind(image) is None or found is None:
            raise NotAble("image: it is no PNG, JPEG or WebP that can be read", param="image")
        if able.most_image and max(found) > able.most_image:
            raise NotAble(
                f"image: {asked.model} takes pictures of up to {able.most_image}x{able.most_image} pixels,"
                f" this one has {found.width}x{found.height}",
                param="image",
            )


def _check_mask(asked: Asked, image: Upload, mask: Upload) -> None:
    if not easel(asked.family, asked.model).masked:
        raise NotAble(f"{asked.model} knows no `mask`", param="mask")
    if _measured(image) != _measured(mask):
        raise NotAble("mask: it must have as many pixels each way as the image", param="mask")


def _kind(upload: Upload) -> picture_file.Kind | None:
    return picture_file.kind(_head(upload, _KIND_BYTES))


def _measured(upload: Upload) -> picture_file.Size | None:
    return picture_file.size(_head(upload, _HEAD_BYTES))


def _head(upload: Upload, size_bytes: int) -> bytes:
    if not upload.size_bytes:
        return b""
    with upload.mapped() as pages:
        return pages[:size_bytes]
