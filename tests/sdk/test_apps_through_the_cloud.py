"""The four kinds of apps for Workers AI, unchanged but for the base URL, answered by the router's cloud."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import requests
from PIL import Image
from two_sides import Side, both_sides

from hybrid_router.emulator.stand_ins import png

pytestmark = [pytest.mark.timeout(90), pytest.mark.asyncio(loop_scope="module")]


class App:
    """The few lines that such apps have in common."""

    def __init__(self, side: Side) -> None:
        self.api_base_url = f"{side.base_url}/accounts/{side.account_id}/ai/run/"
        self.headers = {"Authorization": f"Bearer {side.token}"}

    async def post(self, model: str, **sent: Any) -> requests.Response:
        """The answer; the cloud plays in this thread's loop, so another one waits."""
        url = self.api_base_url + model
        return await asyncio.to_thread(requests.post, url, headers=self.headers, timeout=60, **sent)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[App]:
    """An app that points at a router whose every alias is a model of the emulator."""
    async with both_sides(tmp_path_factory.mktemp("apps")) as sides:
        yield App(sides.router)


async def test_a_retired_chat_model_is_answered_by_the_cloud(app: App) -> None:
    """The name that many examples have is gone; the alias asks a model that is there."""
    inputs = [
        {"role": "system", "content": "You are a friendly assistant"},
        {"role": "user", "content": "repeat: a short story about a llama"},
    ]
    output = (await app.post("@cf/meta/llama-2-7b-chat-int8", json={"messages": inputs})).json()

    assert output["success"] is True
    assert output["result"]["response"] == "a short story about a llama"


async def test_a_translation_is_the_clouds(app: App) -> None:
    """The languages are named as in the examples: in English."""
    asked = {"text": "good morning", "source_lang": "english", "target_lang": "french"}
    output = (await app.post("@cf/meta/m2m100-1.2b", json=asked)).json()

    assert output["result"]["translated_text"] == "[fr] good morning"


async def test_raw_bytes_are_classified_by_the_cloud(app: App) -> None:
    """The picture itself is the body, without a type."""
    output = (await app.post("@cf/microsoft/resnet-50", data=png.picture("a cat", 16, 16))).json()

    assert len(output["result"]) == 5
    assert all(set(row) == {"label", "score"} for row in output["result"])


async def test_a_picture_of_the_cloud_is_a_file(app: App, tmp_path: Path) -> None:
    """What comes back is written to a file as it is."""
    asked = {"prompt": "a red house", "width": 256, "height": 256}
    reply = await app.post("@cf/stabilityai/stable-diffusion-xl-base-1.0", json=asked)
    (tmp_path / "house.png").write_bytes(reply.content)

    assert reply.headers["content-type"] == "image/png"
    with Image.open(tmp_path / "house.png") as painted:
        assert painted.size == (256, 256)
