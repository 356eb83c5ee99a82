"""A chat with an image through the real service: the official package, a tiny model and projector."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import tiny_projector
from manifest_entries import file_entry
from PIL import Image
from router_process import Router, stopped_at_end

pytestmark = pytest.mark.timeout(60)

POLICY = """
server: { listen: 127.0.0.1:0, drain: 5s }
manifest: MANIFEST
backends:
  local:
    type: local
    models:
      seer: { weights: model, projector: mmproj, context: 512, parallel: 2, threads: 1 }
aliases:
  seer: { try: local/seer }
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A router with one model that sees."""
    folder = tmp_path_factory.mktemp("tiny")
    files = {
        "model": tiny_projector.write_model(folder / "model.gguf"),
        "mmproj": tiny_projector.write(folder / "mmproj.gguf"),
    }
    manifest = folder / "manifest.yaml"
    manifest.write_text(json.dumps({"models": {name: file_entry(path) for name, path in files.items()}}))
    started = Router(POLICY.replace("MANIFEST", str(manifest)), tmp_path_factory.mktemp("seeing_router"))
    with stopped_at_end(started):
        yield started


@pytest.fixture
def client(service: Router) -> Iterator[openai.OpenAI]:
    """It never tries twice by itself."""
    with openai.OpenAI(base_url=service.url + "/v1", api_key="any", max_retries=0, timeout=30) as made:
        yield made


def data_url(colour: str) -> str:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def asked(client: openai.OpenAI, url: str) -> Any:
    return client.chat.completions.create(
        model="seer",
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "what is in this picture"},
                    {"type": "image_url", "image_url": {"url": url}},
                ],
            }
        ],
        max_tokens=4,
        temperature=0,
    )


def test_an_image_is_read_and_found_again(client: openai.OpenAI) -> None:
    """The second time it costs nothing; another one is another prompt."""
    first, again, other = (asked(client, data_url(colour)).usage for colour in ("blue", "blue", "red"))

    assert first.prompt_tokens == again.prompt_tokens == other.prompt_tokens
    assert first.prompt_tokens_details.cached_tokens == 0
    assert again.prompt_tokens_details.cached_tokens == again.prompt_tokens - 1
    assert 0 < other.prompt_tokens_details.cached_tokens < other.prompt_tokens - 16


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://example.org/cat.png", "addresses are not fetched"),
        ("data:image/png;base64,QUJD", "no PNG, JPEG, WebP or GIF"),
    ],
)
def test_what_is_no_image_is_the_clients_mistake(client: openai.OpenAI, url: str, words: str) -> None:
    """With a sentence that says what to do."""
    with pytest.raises(openai.BadRequestError, match=words):
        asked(client, url)
