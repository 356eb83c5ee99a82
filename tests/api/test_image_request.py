"""Requests for pictures: what is read, what is refused, and what is answered."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from scripted_answers import ScriptedAnswers, exchange, listening, post, request_bytes

from hybrid_router.api.openai import image_request
from hybrid_router.api.openai.image_request import ImageRequest
from hybrid_router.api.openai.pictures import PictureChunks, document
from hybrid_router.core.asks import Painting
from hybrid_router.core.call import Feature
from hybrid_router.core.errors import CallRefused, StreamBroken
from hybrid_router.core.event import Batch, Finish, Picture, Progress, Usage

PNG = b"\x89PNG-one"
WHOLE: Batch = [Progress(1.0), Picture(PNG), Finish("stop"), Usage(5, 0)]


def asked(**fields: Any) -> ImageRequest:
    """A minimal request with these fields set."""
    body = msgspec.json.encode({"model": "fast", "prompt": "a cat", **fields})
    return image_request.generation(body, call_id="img-1", principal="me", headers={})


def form(*parts: tuple[str, str, str | None]) -> bytes:
    """Parts as (name, content, file name)."""
    out = ""
    for name, content, file in parts:
        head = f'name="{name}"' + (f'; filename="{file}"' if file else "")
        out += f"--b\r\ncontent-disposition: form-data; {head}\r\n\r\n{content}\r\n"
    return (out + "--b--\r\n").encode()


def form_request(path: str, *parts: tuple[str, str, str | None]) -> bytes:
    return request_bytes("POST", path, form(*parts), content_type="multipart/form-data; boundary=b")


def test_what_a_client_asks_is_what_the_engine_is_asked() -> None:
    """Each field of the contract and of ours arrives."""
    request = asked(
        n=3, size="512x768", output_format="webp", output_compression=70, seed=9, steps=20,
        guidance_scale=4.5, negative_prompt="dogs", strength=0.25, stream=True, partial_images=2,
    )  # fmt: skip

    assert request.call.ask == Painting(
        width=512, height=768, steps=20, guidance=4.5, negative="dogs", strength=0.25,
        partial_count=2, format="webp", quality=70,
    )  # fmt: skip
    assert (request.call.n, request.call.sampling.seed, request.call.prompts) == (3, 9, ("a cat",))
    assert request.call.features == frozenset()


@pytest.mark.parametrize("fields", [{}, {"size": "auto"}, {"size": None}, {"seed": -1}])
def test_what_is_not_told_is_the_models_to_choose(fields: dict[str, Any]) -> None:
    """No size is the model's own, and no seed, or −1, is a random one."""
    request = asked(**fields)

    assert (request.ask.width, request.ask.height, request.size) == (0, 0, None)
    assert request.call.sampling.seed is None


def test_names_of_other_servers_mean_the_same() -> None:
    """`num_inference_steps` and `cfg_scale` are steps and guidance."""
    assert asked(num_inference_steps=7, cfg_scale=2).ask == asked(steps=7, guidance_scale=2.0).ask


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"n": 11}, "n"),
        ({"n": 0}, "n"),
        ({"size": "512"}, "size"),
        ({"size": "510x512"}, "size"),
        ({"size": "0x512"}, "size"),
        ({"size": "１２８x128"}, "size"),
        ({"output_format": "bmp"}, "output_format"),
        ({"output_compression": 101}, "output_compression"),
        ({"partial_images": 4, "stream": True}, "partial_images"),
        ({"steps": 0}, "steps"),
        ({"steps": 5, "num_inference_steps": 6}, "num_inference_steps"),
        ({"strength": 1.5}, "strength"),
        ({"response_format": "url", "stream": True}, "response_format"),
        ({"api_base": "http://x"}, "api_base"),
    ],
)
def test_a_field_that_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    """Values out of range, and two names that disagree, are refused with the field's name."""
    with pytest.raises(CallRefused) as refused:
        asked(**fields)

    assert refused.value.param == param


@pytest.mark.parametrize(
    ("fields", "extra"),
    [
        ({"quality": "auto", "background": "opaque", "moderation": "low"}, set()),
        (
            {"quality": "hd", "background": "transparent", "style": "vivid"},
            {"quality", "background", "style"},
        ),
        ({"quality": {"odd": []}}, {"quality"}),
        ({"output_compression": 70}, {"output_compression"}),
        ({"output_compression": 70, "output_format": "png"}, {"output_compression"}),
        ({"output_compression": 70, "output_format": "jpeg"}, set()),
        ({"partial_images": 2}, {"partial_images"}),
        ({"partial_images": 0}, set()),
        ({"partial_images": 2, "stream": True}, set()),
    ],
)
def test_fields_that_nobody_heeds_are_kept_to_be_told(fields: dict[str, Any], extra: set[str]) -> None:
    """All but those that ask for what is so anyway."""
    assert set(asked(**fields).call.extra) == extra


async def test_a_form_brings_pictures_and_mask() -> None:
    """Texts of a form become numbers, `image[]` is several, the mask comes last, and all are let go of."""
    answers = ScriptedAnswers([WHOLE])
    async with listening(answers) as listener:
        raw = form_request(
            "/v1/images/edits",
            ("model", "fast", None), ("prompt", "a hat", None), ("n", "1", None), ("seed", "4", None),
            ("strength", "0.5", None), ("mask", "M", "m.png"),
            ("image[]", "A", "a.png"), ("image[]", "B", "b.png"),
        )  # fmt: skip
        reply = await exchange(listener.port, raw)

    assert reply.status == 200
    (call,) = answers.calls
    assert isinstance(call.ask, Painting)
    assert (call.ask.masked, call.ask.strength, call.sampling.seed) == (True, 0.5, 4)
    assert [upload.name for upload in call.uploads] == ["a.png", "b.png", "m.png"]
    assert call.features == {Feature.INPAINTING}


async def test_an_edit_may_come_as_json() -> None:
    """References that are data: URLs are files like those of a form; addresses are not fetched."""
    answers = ScriptedAnswers([WHOLE])
    inside = {"image_url": "data:image/png;base64," + base64.b64encode(PNG).decode()}
    body = {"model": "fast", "prompt": "a hat", "images": [inside]}
    async with listening(answers) as listener:
        reply = await post(listener.port, "/v1/images/edits", body)
        fetching = await post(
            listener.port, "/v1/images/edits", {**body, "mask": {"image_url": "http://10.0.0.1/x.png"}}
        )
        by_id = await post(listener.port, "/v1/images/edits", {**body, "images": [{"file_id": "file-1"}]})

    assert reply.status == 200
    (call,) = answers.calls
    assert [upload.size_bytes for upload in call.uploads] == [len(PNG)]
    assert call.features == {Feature.IMAGE_INPUT}
    assert (fetching.status, fetching.error["param"]) == (400, "mask.image_url")
    assert (by_id.status, by_id.error["param"]) == (400, "images[0].image_url")


async def test_an_edit_in_json_is_told_what_is_wrong_by_its_own_fields() -> None:
    """Engines and forms say `image`; in JSON there is no such field, but `images`."""
    inside = {"image_url": "data:image/png;base64," + base64.b64encode(PNG).decode()}
    body = {"model": "fast", "prompt": "a hat", "images": [inside]}
    answers = ScriptedAnswers()
    async with listening(answers) as listener:
        answers.refusal = CallRefused("image: no picture", param="image")
        image = await post(listener.port, "/v1/images/edits", body)
        answers.refusal = CallRefused("mask: too small", param="mask")
        mask = await post(listener.port, "/v1/images/edits", body)
        alone = await post(listener.port, "/v1/images/edits", {**body, "images": None, "image": inside})

    assert (image.status, image.error["param"], image.error["message"]) == (
        400,
        "images",
        "images: no picture",
    )
    assert (mask.error["param"], mask.error["message"]) == ("mask", "mask: too small")
    assert (alone.status, alone.error["param"]) == (400, "images")


@pytest.mark.parametrize(
    ("path", "parts", "param"),
    [
        ("/v1/images/edits", [("prompt", "x", None)], "image"),
        ("/v1/images/edits", [("image", "A", "a")], "prompt"),
        ("/v1/images/edits", [("prompt", "x", None), ("image", "A", "a"), *[("mask", "M", "m")] * 2], "mask"),
        ("/v1/images/edits", [("prompt", "x", None), ("image", "A", "a"), ("photo", "P", "p")], "photo"),
        ("/v1/images/variations", [("image", "A", "a"), ("image", "B", "b")], "image"),
        ("/v1/images/variations", [("image", "A", "a"), ("mask", "M", "m")], "mask"),
        ("/v1/images/variations", [("image", "A", "a"), ("n", "many", None)], "n"),
    ],
)  # fmt: skip
async def test_a_form_that_lacks_something_says_what(
    path: str, parts: list[tuple[str, str, str | None]], param: str
) -> None:
    """Files that are missing, too many, or of no use here are named."""
    answers = ScriptedAnswers([WHOLE])
    async with listening(answers) as listener:
        reply = await exchange(listener.port, form_request(path, ("model", "fast", None), *parts))

    assert (reply.status, reply.error["param"]) == (400, param)
    assert not answers.calls


async def test_an_address_is_of_the_host_that_was_asked() -> None:
    """Whoever calls the router by a name fetches by the same name; what comes is named by its own bytes."""
    body = {"model": "fast", "prompt": "a cat", "response_format": "url", "output_format": "jpeg"}
    async with listening(ScriptedAnswers([WHOLE])) as listener:
        reply = await post(listener.port, "/v1/images/generations", body)
        address: str = reply.json["data"][0]["url"]
        path = address.removeprefix("http://localhost")
        got = await exchange(listener.port, request_bytes("GET", path))
        looked = await exchange(listener.port, request_bytes("HEAD", path))

    assert path.startswith("/v1/images/files/img-")
    assert (got.status, got.body, got.headers["content-type"]) == (200, PNG, "image/png")
    assert (looked.status, looked.body) == (200, b"")


def kept(content: bytes) -> str:
    raise AssertionError("nobody asked for an address")


def test_pictures_are_in_their_order() -> None:
    """However they come; unfinished ones do not count, and usage is what was counted."""
    events: Batch = [Picture(b"b", 1), Picture(b"half", 0, 0), Picture(b"a", 0), Finish("stop"), Usage(5, 0)]

    told = msgspec.json.decode(document(asked(n=2, size="64x64"), 12, events, kept))

    assert [base64.b64decode(one["b64_json"]) for one in told["data"]] == [b"a", b"b"]
    assert (told["created"], told["size"], told["output_format"]) == (12, "64x64", "png")
    assert told["usage"]["total_tokens"] == told["usage"]["input_tokens"] == 5


@pytest.mark.parametrize("events", [[], [Picture(b"a", 0, 0)], [Picture(b"a", 1)]])
def test_an_answer_without_its_picture_is_broken(events: Batch) -> None:
    """Nothing, an unfinished one or another one is not what was asked for."""
    with pytest.raises(StreamBroken):
        document(asked(), 0, events, kept)


def test_a_stream_is_whole_when_every_picture_is() -> None:
    """Each picture is sent with the next sign of life, the last one with the usage."""
    chunks = PictureChunks(asked(n=2, stream=True), 3)
    batches: list[Batch] = [
        [Progress(0.1)],
        [Picture(b"a", 0)],
        [Progress(0.6, 1)],
        [Picture(b"b", 1)],
        [Finish("stop", 0), Finish("stop", 1), Usage(5, 0)],
    ]
    sent, wholes = [], []
    for batch in batches:
        sent.append(chunks.encode(batch))
        wholes.append(chunks.whole)
    sent.append(chunks.end())

    assert wholes == [False] * 4 + [True]
    assert [bool(one) for one in sent] == [False, False, True, False, False, True]
    first, last = (msgspec.json.decode(one.partition(b"data: ")[2]) for one in (sent[2], sent[5]))
    assert (first["type"], base64.b64decode(first["b64_json"])) == ("image_generation.completed", b"a")
    assert "usage" not in first
    assert last["usage"]["input_tokens"] == 5


def test_a_picture_that_was_not_asked_for_breaks_the_stream() -> None:
    """It is not passed on."""
    with pytest.raises(StreamBroken):
        PictureChunks(asked(stream=True), 3).encode([Picture(b"a", 1)])
