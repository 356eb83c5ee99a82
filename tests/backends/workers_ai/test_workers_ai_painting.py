"""Pictures on Workers AI: each family's request and reply, several at a time, and what no model makes."""

from __future__ import annotations

import base64
import io
import zlib
from contextlib import aclosing
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_calls import answered, batched, hole, paint, picture
from PIL import Image
from scripted_cloud import PAUSE, Reply, a_step, cloud, file, make, plain

from hybrid_router.backends.errand import Unreadable
from hybrid_router.backends.readers import ANSWER_LIMIT_BYTES
from hybrid_router.backends.workers_ai.tasks import masks, picture_file, pictures
from hybrid_router.core.call import Feature
from hybrid_router.core.errors import BackendBusy, BackendError, BackendUnavailable, NotAble, StreamBroken
from hybrid_router.core.event import Event, Finish, Picture, Progress
from hybrid_router.core.upload import upload_of

pytestmark = pytest.mark.usefixtures("own_uploads")

SDXL = "@cf/stabilityai/stable-diffusion-xl-base-1.0"
LIGHTNING = "@cf/bytedance/stable-diffusion-xl-lightning"
PHOENIX = "@cf/leonardo/phoenix-1.0"
LUCID = "@cf/leonardo/lucid-origin"
SCHNELL = "@cf/black-forest-labs/flux-1-schnell"
FLUX_2 = "@cf/black-forest-labs/flux-2-klein-4b"
INPAINTING = "@cf/runwayml/stable-diffusion-v1-5-inpainting"
PNG, JPEG, WEBP = picture("PNG"), picture("JPEG"), picture("WEBP")

BUSY = plain({"success": False, "errors": [{"code": 3040, "message": "busy"}]})


def in_json(content: bytes) -> Reply:
    """A picture as base64 in an envelope."""
    return plain({"result": {"image": base64.b64encode(content).decode()}, "success": True})


def made(told: list[Event]) -> list[Picture]:
    """The pictures of an answer."""
    return [event for event in told if isinstance(event, Picture)]


def fields(body: bytes) -> dict[str, bytes]:
    """A multipart form's parts by name."""
    boundary = body.partition(b"\r\n")[0]
    parts = [part.partition(b"\r\n\r\n") for part in (b"\r\n" + body).split(b"\r\n" + boundary)[1:-1]]
    return {head.split(b'name="')[1].split(b'"')[0].decode(): content for head, _, content in parts}


@pytest.mark.parametrize(
    ("model", "reply", "content"),
    [
        (SDXL, file(PNG, "image/png"), PNG),
        (LIGHTNING, file(JPEG, "image/jpeg"), JPEG),
        (PHOENIX, file(WEBP, "image/jpeg"), WEBP),
        (SCHNELL, in_json(JPEG), JPEG),
        (LUCID, in_json(PNG), PNG),
        (FLUX_2, in_json(PNG), PNG),
        (SDXL, in_json(PNG), PNG),
        (LUCID, file(JPEG, "application/octet-stream"), JPEG),
    ],
)
async def test_a_picture_comes_as_a_file_or_in_json(model: str, reply: Reply, content: bytes) -> None:
    """Whichever way a model answers, and whatever it says the file is, the picture is the file itself."""
    async with cloud(reply) as (backend, _):
        told = await answered(backend, paint(), model)

    assert [event for event in told if not isinstance(event, Progress)] == [Picture(content), Finish("stop")]


@pytest.mark.parametrize(
    ("model", "wish", "sent"),
    [
        (
            SDXL,
            {"width": 512, "height": 768, "steps": 12, "guidance": 3.5, "negative": "dogs", "seed": 7},
            {"width": 512, "height": 768, "num_steps": 12, "guidance": 3.5, "negative_prompt": "dogs"}
            | {"seed": 7},
        ),
        (SCHNELL, {"width": 1024, "height": 1024, "steps": 8}, {"steps": 8}),
        (
            LUCID,
            {"width": 1120, "height": 1120, "steps": 30},
            {"width": 1120, "height": 1120, "num_steps": 30},
        ),
    ],
)
async def test_wishes_are_sent_in_the_models_words(
    model: str, wish: dict[str, Any], sent: dict[str, Any]
) -> None:
    """Each model's own fields, and nothing that the client did not ask for."""
    async with cloud(in_json(PNG)) as (backend, upstream):
        await answered(backend, paint(**wish), model)

    assert upstream.requests[0][2] == {"prompt": "a cat"} | sent


async def test_flux_2_gets_a_form_even_for_text_alone() -> None:
    """Fields and files are parts of one form, whose length is known."""
    image = picture("PNG", (64, 32))
    async with cloud(in_json(PNG)) as (backend, upstream):
        await answered(backend, paint(width=256, height=512, seed=3), FLUX_2)
        await answered(backend, paint(image, JPEG), FLUX_2)

    (_, headers, body), (_, _, second) = upstream.requests
    assert headers["content-type"].startswith("multipart/form-data; boundary=")
    assert fields(body) == {"prompt": b"a cat", "width": b"256", "height": b"512", "seed": b"3"}
    assert fields(second) == {"prompt": b"a cat", "input_image_0": image, "input_image_1": JPEG}
    assert b"Content-Type: image/jpeg" in second


async def test_an_edit_sends_its_picture() -> None:
    """A picture to begin with travels as base64, with how much of it may change."""
    async with cloud(file(PNG, "image/png")) as (backend, upstream):
        await answered(backend, paint(JPEG, strength=0.4), SDXL)

    sent = upstream.requests[0][2]
    assert base64.b64decode(sent.pop("image_b64")) == JPEG
    assert sent == {"prompt": "a cat", "strength": 0.4}


async def test_several_pictures_have_seeds_and_places_of_their_own() -> None:
    """Each is a request; they are told in their order, once all are there: so that another step could still
    have made them all."""
    colours = ["red", "green", "blue", "white", "black", "yellow"]
    replies = [file(picture(colour=colour), "image/png") for colour in colours]
    async with cloud(*replies) as (backend, upstream):
        told = await batched(backend, paint(n=6, seed=40), SDXL)

    *signs, last = told
    assert sorted(body["seed"] for _, _, body in upstream.requests) == [40, 41, 42, 43, 44, 45]
    assert all(isinstance(event, Progress) for batch in signs for event in batch)
    assert [event.index for event in made(last)] == list(range(6))
    assert {event.content for event in made(last)} == {picture(colour=colour) for colour in colours}
    assert [event.index for event in last if isinstance(event, Finish)] == list(range(6))
    assert upstream.accepted_count <= pictures.MOST_AT_ONCE


async def test_a_failure_among_several_lets_the_next_step_make_them_all() -> None:
    """Nothing was told before, so nothing is broken; what else was asked for is called off."""
    async with cloud(file(PNG, "image/png"), BUSY) as (backend, _):
        with pytest.raises(BackendBusy):
            await answered(backend, paint(n=3), SDXL)


async def test_a_stream_tells_each_picture_as_it_comes() -> None:
    """The first is there while the second is being made; a failure after it breaks the stream."""
    call = paint(n=2, stream=True)
    async with (
        cloud(file(PNG, "image/png"), [PAUSE, *BUSY]) as (backend, upstream),
        aclosing(backend.run(call, a_step(SDXL))) as running,
    ):
        first = await anext(running)
        upstream.go_on.set()
        with pytest.raises(StreamBroken, match="no capacity"):
            await anext(running)

    assert first == [Picture(PNG), Finish("stop")]


@pytest.mark.parametrize(
    ("model", "wish", "param"),
    [
        (SDXL, {"width": 128, "height": 128}, "size"),
        (FLUX_2, {"width": 2048, "height": 1024}, "size"),
        (SCHNELL, {"width": 512, "height": 512}, "size"),
        (SDXL, {"steps": 21}, "steps"),
        (SCHNELL, {"steps": 9}, "steps"),
        (SCHNELL, {"seed": 1}, "seed"),
        (SCHNELL, {"guidance": 2.0}, "guidance_scale"),
        (LUCID, {"negative": "dogs"}, "negative_prompt"),
        (PHOENIX, {"strength": 0.5}, "strength"),
        (SCHNELL, {"prompt": "x" * 2049}, "prompt"),
        (SDXL, {"prompt": ""}, "prompt"),
    ],
)
async def test_what_a_model_cannot_make_is_named(model: str, wish: dict[str, Any], param: str) -> None:
    """Sizes, steps and fields beyond a model's own let another step try, and nothing is sent."""
    async with cloud(file(PNG, "image/png")) as (backend, upstream):
        with pytest.raises(NotAble) as refused:
            await answered(backend, paint(**wish), model)

    assert refused.value.param == param
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("model", "files", "message"),
    [
        (PHOENIX, [PNG], "takes no pictures"),
        (SDXL, [PNG, PNG], "takes 1 pictures"),
        (FLUX_2, [PNG] * 5, "takes 4 pictures"),
        (FLUX_2, [picture(size=(520, 16))], "up to 512x512 pixels, this one has 520x16"),
        (SDXL, [b"GIF89a........"], "no PNG, JPEG or WebP"),
        (SDXL, [b""], "no PNG, JPEG or WebP"),
    ],
)
async def test_pictures_that_a_model_does_not_take_are_named(
    model: str, files: list[bytes], message: str
) -> None:
    """Number, size and kind are checked here, without decoding anything."""
    async with cloud(file(PNG, "image/png")) as (backend, upstream):
        with pytest.raises(NotAble, match=message) as refused:
            await answered(backend, paint(*files), model)

    assert refused.value.param == "image"
    assert upstream.requests == []


async def test_a_picture_that_is_too_large_is_never_read() -> None:
    """What is over the limit is refused by its size alone, pictures and masks alike."""
    image = msgspec.structs.replace(paint(), uploads=(hole(pictures.MOST_BYTES + 1),))
    async with cloud(file(PNG, "image/png")) as (backend, upstream):
        with pytest.raises(NotAble, match=f"{pictures.MOST_BYTES} bytes at most"):
            await answered(backend, image, SDXL)
    with pytest.raises(NotAble, match=f"at most {masks.MOST_BYTES} can be sent"):
        masks.white_where_transparent(hole(masks.MOST_BYTES + 1))

    assert upstream.requests == []


async def test_only_one_model_takes_a_mask() -> None:
    """Whoever asks another past the plan hears so."""
    async with cloud(file(PNG, "image/png")) as (backend, _):
        with pytest.raises(NotAble, match="knows no `mask`"):
            await answered(backend, paint(PNG, a_mask("P"), masked=True), SDXL)


def test_a_jpeg_may_have_fillers_and_marks_before_its_frame() -> None:
    """Bytes that mean nothing, and markers without a length, are passed over."""
    assert picture_file.size(JPEG[:2] + b"\xff\x01\xff" + JPEG[2:]) == (16, 16)
    assert picture_file.size(JPEG[:2] + b"\xff\xff\x01" + JPEG[2:]) == (16, 16)
    assert not picture_file.is_whole(b"none")


def test_features_say_who_edits() -> None:
    """A plan passes over models that take no pictures, and only one model takes masks."""
    backend = make("http://127.0.0.1:9/client/v4")
    able = {model: backend.features(model) for model in (SDXL, FLUX_2, PHOENIX, SCHNELL, INPAINTING)}

    assert [Feature.IMAGE_INPUT in able[model] for model in able] == [True, True, False, False, False]
    assert [Feature.INPAINTING in able[model] for model in able] == [False, False, False, False, True]


@pytest.mark.parametrize("model", [SDXL, SCHNELL, FLUX_2])
@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (BUSY, BackendBusy, "no capacity"),
        (plain({"result": {"image": "???"}}), BackendError, "without a picture"),
        (in_json(b"no picture"), BackendError, "without a picture"),
        (in_json(PNG[:-8]), BackendError, "cut off"),
        (file(PNG[:-8], "image/png"), BackendError, "cut off"),
        (file(JPEG[:-2], "image/jpeg"), BackendError, "cut off"),
        (file(b"<html>", "image/png"), BackendError, "without a picture"),
        (file(b"<html>", "text/html"), BackendError, "no answer"),
        (file(PNG[:20], "image/png", 999), BackendUnavailable, "broke the connection"),
    ],
)  # fmt: skip
async def test_what_is_no_picture_lets_the_next_step_try(
    model: str, reply: Reply, kind: type[Exception], message: str
) -> None:
    """A JSON error instead of a picture, another type, and files without their end are no answers."""
    async with cloud(reply) as (backend, _):
        with pytest.raises(kind, match=message):
            await answered(backend, paint(), model)


async def test_a_picture_beyond_all_measure_is_not_kept() -> None:
    """The limit of a whole reply holds for pictures."""
    async with cloud(file(bytes(ANSWER_LIMIT_BYTES + 1), "image/png")) as (backend, _):
        with pytest.raises(BackendError, match=f"more than {ANSWER_LIMIT_BYTES} bytes"):
            await answered(backend, paint(), SDXL)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("size", [(1, 1), (640, 48), (300, 700)])
def test_sizes_are_read_from_heads(kind: str, size: tuple[int, int]) -> None:
    """As an image library says, for files that it has written."""
    content = picture(kind, size)

    assert picture_file.size(content) == size
    assert picture_file.kind(content) == kind.lower()
    assert picture_file.is_whole(content)
    assert not picture_file.is_whole(content[: len(content) // 2])


@pytest.mark.parametrize("how", [{"lossless": True}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}])
def test_other_forms_of_webp_have_sizes_too(how: dict[str, Any]) -> None:
    """Lossless files, and those with more than the picture."""
    assert picture_file.size(picture("WEBP", (123, 45), **how)) == (123, 45)


@given(st.sampled_from([PNG, JPEG, WEBP, picture("WEBP", lossless=True)]), st.data())
def test_no_head_breaks_the_reader(content: bytes, data: st.DataObject) -> None:
    """Cut and changed anywhere, a file has a size or none, and nothing else happens."""
    at = data.draw(st.integers(0, len(content)))
    broken = content[:at] + data.draw(st.binary(max_size=8)) + content[at + 4 :]

    found = picture_file.size(broken[: data.draw(st.integers(0, len(broken)))])
    assert found is None or min(found) >= 0


def test_an_answer_of_base64_that_is_a_data_url_is_read() -> None:
    """Some servers put the type in front."""
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()

    assert pictures.decode(b'{"result":{"image":"%s"}}' % url.encode()) == PNG
    with pytest.raises(Unreadable):
        pictures.decode(b'{"result":{"image":5}}')


def a_mask(mode: str) -> bytes:
    """Four pixels, the second of which is transparent, as `P` or `L` with the transparency beside them."""
    image = Image.new(mode, (4, 1))
    image.putdata([0, 1, 2, 1])
    if mode == "P":
        image.putpalette([10, 10, 10, 200, 0, 0, 0, 200, 0])
    file_ = io.BytesIO()
    image.save(file_, "PNG", transparency=1)
    return file_.getvalue()


@pytest.mark.parametrize("mode", ["P", "L"])
def test_a_palette_is_a_mask_in_other_colours(mode: str) -> None:
    """What was transparent is white and all else is black, pixel by pixel."""
    written = masks.white_where_transparent(upload_of(a_mask(mode)))
    with Image.open(io.BytesIO(written)) as image:
        assert list(image.convert("L").tobytes()) == [0, 255, 0, 255]


@pytest.mark.parametrize("content", [picture("PNG"), picture("JPEG"), b"", zlib.compress(b"x")])
def test_a_mask_of_pixels_is_not_decoded_here(content: bytes) -> None:
    """Transparency that is in the pixels, or nowhere, is for a model on this machine."""
    with pytest.raises(NotAble, match=r"^mask: ") as refused:
        masks.white_where_transparent(upload_of(content or b"x"))

    assert refused.value.param == "mask"


async def test_inpainting_sends_picture_and_mask() -> None:
    """The mask is a list of bytes, white where the picture may change, and as large as the picture."""
    image = picture("PNG", (4, 1))
    async with cloud(file(PNG, "image/png")) as (backend, upstream):
        await answered(backend, paint(image, a_mask("P"), masked=True), INPAINTING)
        with pytest.raises(NotAble, match="as many pixels"):
            await answered(backend, paint(PNG, a_mask("P"), masked=True), INPAINTING)

    sent = upstream.requests[0][2]
    assert base64.b64decode(sent["image_b64"]) == image
    with Image.open(io.BytesIO(bytes(sent["mask"]))) as mask:
        assert list(mask.convert("L").tobytes()) == [0, 255, 0, 255]
