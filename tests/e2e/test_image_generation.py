"""Pictures through the real service: OpenAI's own package, a tiny Stable Diffusion in its own process."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import openai
import pytest
import tiny_painter
from manifest_entries import folder_entry
from openai.types import ImagesResponse
from PIL import Image, ImageChops
from router_process import Router, cpu_s, soon, stopped_at_end
from wire_client import raw_call

# The worker imports diffusers, which takes many seconds where others compute too.
pytestmark = [pytest.mark.timeout(180), pytest.mark.filterwarnings("ignore")]

WITHIN_S = 150
SIDE = tiny_painter.SIDE
KEYS = {"alice": "alice-key-0123456789", "bob": "bob-key-9876543210"}
POLICY = """
server:
  listen: 127.0.0.1:0
  drain: 5s
  keys:
    - { name: alice, sha256: ALICE }
    - { name: bob, sha256: BOB }
manifest: MANIFEST
backends:
  local:
    type: local
    timeouts: { load: 150s, first_token: 150s }
    models:
      painter: { engine: images, threads: 1, steps: 4, guidance: 3, most_pixels: 16384, preload: false }
aliases:
  painter: { try: local/painter, timeouts: { total: 200s } }
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A router with one painter and two keys."""
    models = tmp_path_factory.mktemp("painters")
    tiny_painter.write(models / "painter")
    entries = {"painter": folder_entry(models / "painter", "images")}
    (models / "manifest.yaml").write_text(json.dumps({"models": entries}))
    policy = POLICY.replace("MANIFEST", str(models / "manifest.yaml"))
    for name, key in KEYS.items():
        policy = policy.replace(name.upper(), hashlib.sha256(key.encode()).hexdigest())
    started = Router(policy, tmp_path_factory.mktemp("painting_router"))
    with stopped_at_end(started):
        yield started


@pytest.fixture
def client(service: Router) -> Iterator[openai.OpenAI]:
    """Alice's; it never tries twice by itself."""
    with openai.OpenAI(
        base_url=service.url + "/v1", api_key=KEYS["alice"], max_retries=0, timeout=WITHIN_S
    ) as made:
        yield made


def picture(encoded: str | None) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(encoded or "")))


def pictures(answer: ImagesResponse) -> list[Image.Image]:
    return [picture(one.b64_json) for one in answer.data or []]


def png(drawn: Image.Image) -> bytes:
    out = io.BytesIO()
    drawn.save(out, "PNG")
    return out.getvalue()


def data_url(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def house() -> Image.Image:
    return Image.linear_gradient("L").resize((SIDE, SIDE)).convert("RGB")


def mask() -> Image.Image:
    """The right half may change."""
    made = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 255))
    made.paste((0, 0, 0, 0), (SIDE // 2, 0, SIDE, SIDE))
    return made


def is_changed(before: Image.Image, after: Image.Image) -> tuple[bool, bool]:
    """Whether the left half differs, and the right one."""
    difference = ImageChops.difference(before, after.convert("RGB"))
    halves = ((0, 0, SIDE // 2, SIDE), (SIDE // 2, 0, SIDE, SIDE))
    left, right = (difference.crop(half).getbbox() is not None for half in halves)
    return left, right


def fetched(url: str, key: str) -> tuple[int, dict[str, str], bytes]:
    request = Request(url, headers={"authorization": f"Bearer {key}"})  # noqa: S310 - the router's own
    try:
        with urlopen(request, timeout=WITHIN_S) as reply:  # noqa: S310
            return reply.status, {k.lower(): v for k, v in reply.headers.items()}, reply.read()
    except HTTPError as no:
        return no.code, {}, no.read()


def test_pictures_of_a_text(client: openai.OpenAI) -> None:
    """`n` pictures in the size that is asked for, the same ones for the same seed."""
    first, again = (
        client.images.generate(
            model="painter",
            prompt="a red house",
            n=2,
            size="48x32",
            extra_body={"seed": 7},
        )
        for _ in range(2)
    )

    assert [one.size for one in pictures(first)] == [(48, 32), (48, 32)]
    made, made_again = ([one.b64_json for one in answer.data or []] for answer in (first, again))
    assert made == made_again
    assert len(set(made)) == 2
    assert first.usage is not None
    assert first.usage.input_tokens == len("aredhouse") + 2


def test_fields_that_change_nothing_here_are_named(client: openai.OpenAI) -> None:
    """What a local model cannot heed is told by name; what is so anyway is not."""
    raw = client.images.with_raw_response.generate(
        model="painter", prompt="a house", quality="high", background="opaque", style="vivid"
    )

    assert raw.headers["x-router-ignored"] == "quality,style"


def test_a_stream_shows_pictures_on_the_way(client: openai.OpenAI) -> None:
    """Unfinished pictures come in order, then the finished one, which is what a plain call gets."""
    fields: dict[str, Any] = {"model": "painter", "prompt": "a tree", "extra_body": {"seed": 3}}
    events = list(client.images.generate(**fields, stream=True, partial_images=2))
    plain = client.images.generate(**fields)

    assert [event.type for event in events] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    assert [event.partial_image_index for event in events[:2]] == [0, 1]
    assert len({event.b64_json for event in events}) == 3
    assert events[-1].b64_json == plain.data[0].b64_json
    assert events[-1].usage.input_tokens == len("atree") + 2


async def test_who_leaves_frees_the_painter(service: Router, client: openai.OpenAI) -> None:
    """A quarter of the first of ten pictures is done: the painter stops where it is, and serves the next call
    with less work than it had done for the one that was left, of which forty times as much remained."""
    small: dict[str, Any] = {"model": "painter", "prompt": "a leaf", "extra_body": {"steps": 1}}
    client.images.generate(**small)  # the model is loaded
    painter = service.worker()
    begun_s = cpu_s(painter)
    body = {"model": "painter", "prompt": "a forest", "n": 10, "steps": 150, "size": "128x128"}
    key = {"authorization": "Bearer " + KEYS["alice"]}
    shown = {"stream": True, "partial_images": 3}
    async with raw_call(service, {**body, **shown}, "/v1/images/generations", key) as call:
        await call.sees(b"image_generation.partial_image")
        left_s = cpu_s(painter)
        call.reset()

    answer = await asyncio.to_thread(lambda: client.images.generate(**small))  # this loop closes the socket

    assert pictures(answer)
    assert cpu_s(painter) - left_s < left_s - begun_s
    assert service.worker() == painter

    def left() -> list[dict[str, Any]]:  # lines are written beside the answers
        return [line for line in service.log() if line.get("error") == "client_gone"]

    (line,) = await soon(left, "the line of the call that was left")
    assert (line["event"], line["path"]) == ("call", "/v1/images/generations")


def test_an_edit_keeps_to_its_mask(client: openai.OpenAI) -> None:
    """As a form and as JSON, plain and streamed: what the mask covers stays, the rest changes."""
    before, fields = house(), {"model": "painter", "prompt": "a door"}
    form = client.images.edit(image=png(before), mask=png(mask()), **fields)  # type: ignore[call-overload]
    streamed = list(client.images.edit(image=png(before), mask=png(mask()), stream=True, **fields))  # type: ignore[call-overload]
    inside = {"images": [{"image_url": data_url(png(before))}], "mask": {"image_url": data_url(png(mask()))}}
    in_json = client.post("/images/edits", body={**fields, **inside}, cast_to=ImagesResponse)

    assert [event.type for event in streamed] == ["image_edit.completed"]
    for after in (*pictures(form), picture(streamed[0].b64_json), *pictures(in_json)):
        assert is_changed(before, after) == (False, True)


def test_variations_are_made_of_a_picture(client: openai.OpenAI) -> None:
    """Without a prompt, in the picture's own shape."""
    found = pictures(client.images.create_variation(image=png(house()), model="painter", n=2))

    assert [one.size for one in found] == [(SIDE, SIDE)] * 2
    assert all(is_changed(house(), one) == (True, True) for one in found)


def test_a_picture_is_fetched_by_its_owner_alone(client: openai.OpenAI) -> None:
    """Its address gives its bytes and their type to whoever asked for it; to others it is not there."""
    answer = client.images.generate(
        model="painter", prompt="a boat", response_format="url", output_format="webp"
    )
    (one,) = answer.data or []
    url = str(one.url)

    status, headers, content = fetched(url, KEYS["alice"])
    assert (status, headers["content-type"], headers["x-content-type-options"]) == (
        200,
        "image/webp",
        "nosniff",
    )
    assert headers["cache-control"] == "no-store"
    assert Image.open(io.BytesIO(content)).format == "WEBP"
    others, never = fetched(url, KEYS["bob"]), fetched(url + "0", KEYS["alice"])
    assert others[0] == never[0] == 404
    assert others[2] == never[2]
    assert fetched(url, "no-key-of-ours")[0] == 401


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"size": "1000x24"}, "size"),
        ({"size": "1024x1024"}, "size"),
        ({"extra_body": {"steps": 151}}, "steps"),
        ({"extra_body": {"strength": 0.5}}, "strength"),
    ],
)
def test_what_cannot_be_is_refused_by_name(client: openai.OpenAI, fields: dict[str, Any], param: str) -> None:
    """Odd sizes and limits of router.yaml: a 400 that names the field, before anything is computed."""
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(model="painter", prompt="a cat", **fields)

    assert refused.value.param == param


def test_a_file_that_is_no_picture_is_refused(client: openai.OpenAI) -> None:
    """The worker looks at it, says what is wrong, and paints on."""
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.edit(model="painter", prompt="a cat", image=b"<svg onload=alert(1)>")

    assert refused.value.param == "image"
    assert pictures(client.images.generate(model="painter", prompt="a cat"))
