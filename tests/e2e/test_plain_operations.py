"""Pictures classified, texts judged and translated through the real service, with OpenAI's own package."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import hostile_media
import openai
import pytest
from installed_weights import efficientnet
from manifest_entries import file_entry
from memory_peak import growth_bytes, peak_bytes
from openai.types import ModerationImageURLInputParam
from PIL import Image
from router_process import Router, stopped_at_end
from sklearn.datasets import load_sample_image

pytestmark = [pytest.mark.timeout(120), pytest.mark.model]

MOST_GROWTH_BYTES = 100 * 2**20

POLICY = """
server: { listen: 127.0.0.1:0, drain: 5s }
manifest: MANIFEST
backends:
  local:
    type: local
    models:
      names: { engine: classify, weights: efficientnet, threads: 1, device: cpu, preload: false }
      guard: { purpose: moderate, weights: smol, threads: 1, context: 1024, parallel: 2, preload: false }
      chat: { weights: smol, threads: 1, context: 512, parallel: 1, preload: false }
aliases:
  names: { try: local/names, timeouts: PATIENT }
  omni-moderation-latest: { try: local/guard, timeouts: PATIENT }
  chat: { try: local/chat, timeouts: PATIENT }
"""
PATIENT = "{ connect: 5s, load: 60s, first_token: 60s, between_tokens: 60s, total: 100s }"


@pytest.fixture(scope="module")
def service(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A router with a classifier, a guard and a chat model, each loaded when it is asked."""
    folder = tmp_path_factory.mktemp("models")
    entries = {}
    for name, path in (("efficientnet", efficientnet()), ("smol", model_path)):
        (folder / path.name).symlink_to(path)
        entries[name] = file_entry(path)
    manifest = folder / "manifest.yaml"
    manifest.write_text(json.dumps({"models": entries}))  # JSON is YAML
    policy = POLICY.replace("MANIFEST", str(manifest)).replace("PATIENT", PATIENT)
    started = Router(policy, tmp_path_factory.mktemp("plain_router"))
    with stopped_at_end(started):
        yield started


@pytest.fixture
def client(service: Router) -> Iterator[openai.OpenAI]:
    """It never tries twice by itself."""
    with openai.OpenAI(base_url=service.url + "/v1", api_key="any", max_retries=0, timeout=100) as made:
        yield made


def post(service: Router, path: str, body: bytes, content_type: str = "application/json") -> tuple[int, Any]:
    connection = HTTPConnection(urlsplit(service.url).netloc, timeout=100)
    try:
        connection.request("POST", path, body, {"Content-Type": content_type})
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def photograph() -> bytes:
    file = io.BytesIO()
    Image.fromarray(load_sample_image("flower.jpg")).save(file, "JPEG")
    return file.getvalue()


def form(fields: dict[str, str], image: bytes) -> tuple[bytes, str]:
    """A form as clients write it, and its type."""
    pieces = [
        f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    return b"".join([*pieces, head, image, b"\r\n--x--\r\n"]), "multipart/form-data; boundary=x"


def test_a_photograph_is_named(service: Router) -> None:
    """Alike as a form's file and inside JSON, with as many labels as were asked for."""
    body, kind = form({"model": "names", "top_k": "3"}, photograph())
    status, as_form = post(service, "/v1/classify", body, kind)
    url = "data:image/jpeg;base64," + base64.b64encode(photograph()).decode()
    _, as_json = post(
        service, "/v1/classify", json.dumps({"model": "names", "image": url, "top_k": 3}).encode()
    )

    assert (status, as_form["object"], as_form["model"]) == (200, "classification", "names")
    assert as_form["labels"][0]["label"] == "daisy"
    assert len(as_form["labels"]) == 3
    assert as_json["labels"] == as_form["labels"]


def test_what_is_no_picture_is_refused(service: Router) -> None:
    """By the field's name, with a status that says whose fault it is."""
    body, kind = form({"model": "names"}, b"no picture")

    status, told = post(service, "/v1/classify", body, kind)

    assert (status, told["error"]["param"]) == (400, "image")


@pytest.fixture(scope="module")
def warm(service: Router) -> Router:
    """The service once it has looked at a photograph: what that takes is taken."""
    assert post(service, "/v1/classify", *form({"model": "names"}, photograph()))[0] == 200
    return service


@pytest.mark.parametrize(
    ("picture", "why"),
    [
        (hostile_media.huge_png, "far too many pixels"),
        (hostile_media.huge_gif, "far too many pixels"),
        (hostile_media.wordy_png, "damaged"),
        (lambda: hostile_media.svg("/etc/hostname"), "no PNG, JPEG, WebP or GIF"),
    ],
    ids=["50000x50000", "gif", "text", "svg"],
)
def test_a_bomb_is_refused_before_it_costs_memory(
    warm: Router, picture: Callable[[], bytes], why: str
) -> None:
    """What would unpack to gigabytes, or names other files: a 400 that says why, and hardly any memory."""
    before = peak_bytes(warm)

    status, told = post(warm, "/v1/classify", *form({"model": "names"}, picture()))

    assert (status, told["error"]["param"]) == (400, "image")
    assert why in told["error"]["message"]
    assert growth_bytes(warm, before) < MOST_GROWTH_BYTES


def test_pixels_that_nobody_announced_are_left_packed(warm: Router) -> None:
    """A small picture with half a gigabyte behind it is looked at like any other."""
    before = peak_bytes(warm)

    status, told = post(warm, "/v1/classify", *form({"model": "names"}, hostile_media.fat_png()))

    assert status == 200, told
    assert growth_bytes(warm, before) < MOST_GROWTH_BYTES


def test_openais_package_gets_verdicts(client: openai.OpenAI) -> None:
    """One for each text, in a form that its types accept, from a small chat model asked as a guard."""
    found = client.moderations.create(input=["I like your garden.", "What a day!"])

    assert found.id.startswith("modr-")
    assert len(found.results) == 2
    for result in found.results:
        assert result.flagged == any(result.categories.model_dump().values())
        scores = result.category_scores.model_dump()
        assert len(scores) >= 13
        assert all(0 <= score <= 1 for score in scores.values())
        assert result.category_applied_input_types.violence == ["text"]


def test_an_image_for_a_guard_of_texts_is_refused(client: openai.OpenAI) -> None:
    """By name, before a model is asked."""
    part: ModerationImageURLInputParam = {
        "type": "image_url",
        "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="},
    }
    with pytest.raises(openai.BadRequestError, match="images") as refused:
        client.moderations.create(input=[part])

    assert refused.value.code == "unsupported_parameter"


def test_a_chat_model_translates_where_nobody_else_does(service: Router) -> None:
    """It is asked text by text; what it makes of it is its own."""
    asked = {"model": "chat", "input": ["Good morning.", "Thank you."], "target": "es", "source": "en"}

    status, told = post(service, "/v1/translate", json.dumps(asked).encode())

    assert (status, told["object"]) == (200, "translation")
    assert [one["index"] for one in told["translations"]] == [0, 1]
    assert all(one["text"].strip() and one["source"] == "en" for one in told["translations"])
    assert told["usage"]["completion_tokens"] > 0


def test_a_classifier_does_not_translate(service: Router) -> None:
    """The client is told by name that nobody can do this."""
    asked = {"model": "names", "input": "Good morning.", "target": "es"}

    status, told = post(service, "/v1/translate", json.dumps(asked).encode())

    assert (status, told["error"]["code"]) == (400, "unsupported_parameter")
