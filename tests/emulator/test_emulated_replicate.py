"""Replicate's own package against the emulator: what it accepts is the API's form."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from PIL import Image
from replicate.client import Client
from replicate.exceptions import ReplicateError
from replicate.prediction import Prediction

from hybrid_router.api.workers_ai.refusal import Refusal
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.upload import upload_of
from hybrid_router.emulator.fault import NO_FAULT
from hybrid_router.emulator.replicate import predictions, serve
from hybrid_router.emulator.replicate.predictions import Shelf, Shop, Stored
from hybrid_router.emulator.settings import Settings
from hybrid_router.emulator.stage import RunningCloud


@pytest.fixture
async def running() -> AsyncIterator[RunningCloud]:
    """The emulator, where nothing is done at once."""
    async with serve(Settings(plain_limit_s=0, queue_polls=1)) as started:
        yield started


@pytest.fixture
async def client(running: RunningCloud, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """The package, pointed at it."""
    monkeypatch.setenv("REPLICATE_POLL_INTERVAL", "0.01")
    async with opened(running.root, running.token) as made:
        yield made


@asynccontextmanager
async def opened(root: str, token: str) -> AsyncIterator[Client]:
    """The package, which has no way to close what it opens."""
    made = Client(api_token=token, base_url=root)
    yield made
    await made._async_client.aclose()


async def test_the_package_reads_a_stream(client: Client) -> None:
    """Each event's text, lines and all."""
    stream = await client.async_stream("owner/name", input={"prompt": "repeat: one\ntwo"})
    said = [str(event) async for event in stream if event.event.value == "output"]

    assert "".join(said) == "one\ntwo"


async def test_the_package_waits_for_a_picture(client: Client) -> None:
    """It looks until the prediction has ended, and fetches the file."""
    made = await client.models.predictions.async_create(
        ("owner", "flux"), input={"prompt": "a cat", "width": 32, "height": 16}
    )
    await made.async_wait()

    assert made.output is not None
    (file,) = made.output
    fetched = await client._async_client.get(file)
    assert Image.open(io.BytesIO(fetched.content)).size == (32, 16)


async def test_the_package_cancels_a_prediction(client: Client) -> None:
    """Nothing comes of it, however often it is looked at."""
    made = await client.models.predictions.async_create(("owner", "flux"), input={"prompt": "a cat"})
    await made.async_cancel()
    await made.async_reload()
    await made.async_reload()

    assert (made.status, made.output) == ("canceled", None)


async def test_the_package_puts_a_file_there(client: Client) -> None:
    """And takes it away."""
    file = await client.files.async_create(io.BytesIO(b"RIFF"), filename="a.wav", content_type="audio/wav")

    assert file.content_type == "audio/wav"
    await client.files.async_delete(file.id)
    with pytest.raises(ReplicateError, match="not be found"):
        await client.files.async_delete(file.id)


async def test_the_package_names_what_is_wrong(client: Client, running: RunningCloud) -> None:
    """By the problem's title and detail; and a token that is not known opens nothing."""
    with pytest.raises(ReplicateError, match="prompt is required"):
        await client.models.predictions.async_create(("owner", "name"), input={})
    async with opened(running.root, "another") as stranger:
        with pytest.raises(ReplicateError, match="Unauthenticated"):
            await stranger.models.predictions.async_create(("owner", "name"), input={"prompt": "hi"})


async def test_a_cancelled_stream_says_nothing_more(client: Client) -> None:
    """And one that has ended says the same again."""
    ended = await client.models.predictions.async_create(
        ("owner", "name"), input={"prompt": "repeat: one"}, stream=True
    )
    cancelled = await client.models.predictions.async_create(
        ("owner", "name"), input={"prompt": "repeat: one"}, stream=True
    )
    await cancelled.async_cancel()

    told = [await _streamed(client, made) for made in (ended, ended, cancelled)]
    await cancelled.async_reload()
    assert told[0] == told[1]
    assert "data: one" in told[0]
    assert told[2] == 'event: done\nid: 1:0\ndata: {"reason": "canceled"}\n\n'
    assert cancelled.status == "canceled"


async def _streamed(client: Client, made: Prediction) -> str:
    assert made.urls is not None
    return (await client._async_client.get(made.urls["stream"])).text


def test_what_is_kept_is_bounded() -> None:
    """The oldest prediction makes room for a new one, and lets go of its files; so does the oldest file."""
    shop, shelf = Shop(kept_count=1), Shelf(most_bytes=5)
    made = [prediction(name) for name in ("a", "b")]
    for each in made:
        shop.add(each)
    names = [shelf.put(Stored(content, "text/plain")) for content in (b"abc", b"de", b"f")]

    with pytest.raises(Refusal):
        shop.find("a")
    assert [each.status for each in made] == ["canceled", "starting"]
    assert closed(made[0])
    assert not closed(made[1])
    assert [shelf.find(name) is not None for name in names] == [False, True, True]
    shop.close()
    assert closed(made[1])


def prediction(name: str) -> predictions.Prediction:
    """One that has a file and has not begun."""
    call = Call(id=name, operation=Operation.TRANSCRIBE, alias="m", uploads=(upload_of(b"RIFF"),))
    return predictions.Prediction(id=name, call=call, given={}, stream=False, fault=NO_FAULT)


def closed(made: predictions.Prediction) -> bool:
    """Whether its file is."""
    try:
        os.fstat(made.call.uploads[0].fd)
    except OSError:
        return True
    return False
