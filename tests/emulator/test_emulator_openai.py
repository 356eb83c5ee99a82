"""The emulated OpenAI API as the official package sees it, and its faults."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from openai import APIStatusError, AsyncOpenAI

from hybrid_router.emulator.fault import Fault
from hybrid_router.emulator.openai import serve
from hybrid_router.emulator.settings import Settings
from hybrid_router.emulator.stage import RunningCloud
from hybrid_router.emulator.stand_ins import wav

SAID = [{"role": "user", "content": "count to 3"}]


@pytest.fixture
async def cloud() -> AsyncIterator[RunningCloud]:
    """The emulator."""
    async with serve(Settings()) as running:
        yield running


@pytest.fixture
async def client(cloud: RunningCloud) -> AsyncIterator[AsyncOpenAI]:
    """The official client, which asks once."""
    async with AsyncOpenAI(base_url=f"{cloud.root}/v1", api_key=cloud.token, max_retries=0) as made:
        yield made


async def test_the_official_package_is_at_home(client: AsyncOpenAI) -> None:
    """It chats, streams, embeds, draws, speaks and hears."""
    plain = await client.chat.completions.create(model="m", messages=SAID)  # type: ignore[arg-type]
    stream = await client.chat.completions.create(model="m", messages=SAID, stream=True)  # type: ignore[arg-type]
    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]  # type: ignore[union-attr]
    vectors = await client.embeddings.create(model="m", input=["a", "b"])
    picture = await client.images.generate(model="m", prompt="a cat", response_format="b64_json")
    sound = await client.audio.speech.create(model="m", voice="alloy", input="hello", response_format="wav")
    heard = await client.audio.transcriptions.create(
        model="m", file=("a.wav", wav.sound("good morning", 1.0), "audio/wav")
    )

    assert plain.choices[0].message.content == "".join(pieces) == "1 2 3"
    assert plain.usage is not None
    assert plain.usage.completion_tokens == 3
    assert [one.index for one in vectors.data] == [0, 1]
    assert picture.data is not None
    assert base64.b64decode(picture.data[0].b64_json or "").startswith(b"\x89PNG")
    assert sound.content.startswith(b"RIFF")
    assert "good morning" in heard.text


async def test_errors_are_in_openai_s_words(client: AsyncOpenAI, cloud: RunningCloud) -> None:
    """Of the call, of the token, and those that are asked for."""
    cloud.account.faults.add(Fault(status=429, message="slow down", retry_after="7"))
    with pytest.raises(APIStatusError) as limited:
        await client.chat.completions.create(model="m", messages=SAID)  # type: ignore[arg-type]
    with pytest.raises(APIStatusError) as odd:
        await client.chat.completions.create(model="m", messages=[])
    with pytest.raises(APIStatusError) as stranger:
        await client.with_options(api_key="no").embeddings.create(model="m", input="a")
    with pytest.raises(APIStatusError) as lost:
        await client.post("/nowhere", cast_to=object)

    assert limited.value.response.headers["retry-after"] == "7"
    assert (limited.value.code, limited.value.status_code) == ("rate_limit_exceeded", 429)
    assert (odd.value.status_code, odd.value.type) == (400, "invalid_request_error")
    assert (stranger.value.status_code, lost.value.status_code) == (401, 404)


async def test_an_error_within_a_stream_is_openai_s_too(cloud: RunningCloud) -> None:
    """Not Cloudflare's envelope."""
    cloud.account.faults.add(Fault(error_after=2, status=500, message="out of luck"))
    body = {"model": "m", "messages": SAID, "stream": True}
    headers = {"authorization": f"Bearer {cloud.token}"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{cloud.root}/v1/chat/completions", json=body, headers=headers) as reply,
    ):
        *_, last = [line for line in (await reply.text()).split("\n\n") if line]

    assert json.loads(last.removeprefix("data: "))["error"]["message"] == "out of luck"
    assert cloud.account.calls.calls[0].headers["authorization"] == "***"
    assert cloud.account.calls.calls[0].events_sent == 2
