"""Apps that were written for Workers AI, unchanged but for the base URL, answered by models of our own."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import tiny_painter
from installed_weights import efficientnet
from manifest_entries import file_entry, folder_entry
from PIL import Image
from router_process import Router, stopped_at_end
from sklearn.datasets import load_sample_image

# The painter's worker imports diffusers, which takes many seconds where others compute too.
pytestmark = [pytest.mark.timeout(180), pytest.mark.model, pytest.mark.filterwarnings("ignore")]

WITHIN_S = 150
KEY = "alice-key-0123456789"
ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"
POLICY = """
server:
  listen: 127.0.0.1:0
  drain: 5s
  allowed_origins: ["https://app.example"]
  keys: [{ name: alice, sha256: DIGEST }]
manifest: MANIFEST
backends:
  local:
    type: local
    timeouts: { load: 150s, first_token: 150s, between_tokens: 60s }
    models:
      names: { engine: classify, weights: efficientnet, threads: 1, device: cpu, preload: false }
      chat: { weights: smol, threads: 2, context: 1024, parallel: 2, preload: false }
      painter: { engine: images, threads: 1, steps: 2, most_pixels: 16384, preload: false }
aliases:
  names: { try: local/names, timeouts: { total: 170s } }
  chat: { try: local/chat, timeouts: { total: 170s } }
  painter: { try: local/painter, timeouts: { total: 170s } }
dialects:
  workers_ai:
    models: { "@cf/microsoft/*": names }
    tasks: { Text Generation: chat, Translation: chat, Text-to-Image: painter }
"""


@pytest.fixture(scope="module")
def service(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A router with a chat model, a classifier and a painter, each loaded when it is asked."""
    folder = tmp_path_factory.mktemp("models")
    entries: dict[str, Any] = {}
    for name, path in (("efficientnet", efficientnet()), ("smol", model_path)):
        (folder / path.name).symlink_to(path)
        entries[name] = file_entry(path)
    tiny_painter.write(folder / "painter")
    entries["painter"] = folder_entry(folder / "painter", "images")
    manifest = folder / "manifest.yaml"
    manifest.write_text(json.dumps({"models": entries}))
    policy = POLICY.replace("MANIFEST", str(manifest))
    policy = policy.replace("DIGEST", hashlib.sha256(KEY.encode()).hexdigest())
    started = Router(policy, tmp_path_factory.mktemp("dialect_router"))
    with stopped_at_end(started):
        yield started


class App:
    """The few lines that such apps have in common."""

    def __init__(self, base_url: str) -> None:
        self.api_base_url = f"{base_url}/client/v4/accounts/{ACCOUNT}/ai/run/"
        self.headers = {"Authorization": f"Bearer {KEY}"}

    def post(self, model: str, **sent: Any) -> requests.Response:
        """The answer, whatever it is."""
        return requests.post(f"{self.api_base_url}{model}", headers=self.headers, timeout=WITHIN_S, **sent)

    def run(self, model: str, inputs: dict[str, Any]) -> Any:
        """The document of an answer."""
        return self.post(model, json=inputs).json()


@pytest.fixture
def app(service: Router) -> App:
    """An app that points here."""
    return App(service.url)


def test_a_chat_app_asks_a_retired_model(app: App) -> None:
    """The model that many examples name is gone; an alias of its task answers in its form."""
    inputs = [
        {"role": "system", "content": "You are a friendly assistant that helps write stories"},
        {"role": "user", "content": "Write a short story about a llama"},
    ]
    output = app.run("@cf/meta/llama-2-7b-chat-int8", {"messages": inputs, "max_tokens": 12})

    assert output["success"] is True
    assert output["result"]["response"]
    assert 0 < output["result"]["usage"]["completion_tokens"] <= 12


def test_a_chat_app_reads_a_stream(app: App) -> None:
    """Lines with `response`, the same text as without a stream, then the end mark."""
    asked = {"prompt": "Say hello", "max_tokens": 8, "seed": 7, "temperature": 0}
    whole = app.run("@cf/meta/llama-2-7b-chat-int8", asked)["result"]["response"]
    with app.post("@cf/meta/llama-2-7b-chat-int8", json=asked | {"stream": True}, stream=True) as reply:
        lines = [line.removeprefix(b"data: ") for line in reply.iter_lines() if line]

    assert lines.pop() == b"[DONE]"
    assert "".join(json.loads(line)["response"] for line in lines) == whole


def test_a_translation_app_asks_m2m100(app: App) -> None:
    """A chat model translates where router.yaml has no translator; languages may be named in English."""
    output = app.run(
        "@cf/meta/m2m100-1.2b",
        {"text": "Good morning", "source_lang": "english", "target_lang": "french"},
    )

    assert output["success"] is True
    assert output["result"]["translated_text"].strip()


def test_an_image_app_sends_raw_bytes(app: App) -> None:
    """The picture itself is the body, without a type; what it shows comes back as a list."""
    file = io.BytesIO()
    Image.fromarray(load_sample_image("flower.jpg")).save(file, "JPEG")

    output = app.post("@cf/microsoft/resnet-50", data=file.getvalue()).json()

    assert output["result"][0]["label"] == "DAISY"
    assert len(output["result"]) == 5


def test_a_painting_app_saves_a_file(app: App, tmp_path: Path) -> None:
    """What comes back is the picture, to be written to a file as it is."""
    reply = app.post(
        "@cf/stabilityai/stable-diffusion-xl-base-1.0",
        json={"prompt": "a red house", "width": 64, "height": 64, "num_steps": 2},
    )
    (tmp_path / "house.png").write_bytes(reply.content)

    assert reply.headers["content-type"] == "image/png"
    assert Image.open(tmp_path / "house.png").size == (64, 64)


def test_a_painter_of_our_own_makes_the_type_of_the_model(app: App) -> None:
    """Where Cloudflare's model makes JPEG, so does the local one in its place."""
    asked = {"prompt": "a red house", "width": 64, "height": 64, "num_steps": 2}
    reply = app.post("@cf/leonardo/phoenix-1.0", json=asked)

    assert (reply.headers["content-type"], reply.content[:3]) == ("image/jpeg", b"\xff\xd8\xff")


def test_a_page_in_a_browser_may_ask_if_it_is_listed(app: App) -> None:
    """A preflight without a key is answered for a listed page, and for no other."""
    url = app.api_base_url + "@cf/meta/llama-2-7b-chat-int8"
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    mine = requests.options(url, headers=asks | {"Origin": "https://app.example"}, timeout=WITHIN_S)
    other = requests.options(url, headers=asks | {"Origin": "https://evil.example"}, timeout=WITHIN_S)

    assert (mine.status_code, mine.headers["access-control-allow-origin"]) == (204, "https://app.example")
    assert other.status_code == 403


def test_whoever_has_no_key_gets_nothing(app: App) -> None:
    """In Cloudflare's words; the account's id opens nothing."""
    reply = requests.post(app.api_base_url + "@cf/meta/m2m100-1.2b", json={"text": "hi"}, timeout=WITHIN_S)

    assert (reply.status_code, reply.json()["errors"][0]["code"]) == (401, 10000)
