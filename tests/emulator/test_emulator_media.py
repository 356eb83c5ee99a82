"""Files that the emulator makes: they decode, they are the same each time, and faults act on them too."""

from __future__ import annotations

import base64
import io
import struct
from typing import Any

import aiohttp
import pytest
from asked_models import SPOKEN, picture_format, sound_s
from emulated import CLASSIC, Cloud, emulated, first_code, said
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hybrid_router.emulator.settings import Settings
from hybrid_router.emulator.stand_ins import jpeg, meaning, mp3, png, recordings, wav
from hybrid_router.emulator.stand_ins.stripes import STRIPE_ROWS, colours

AURA = "@cf/deepgram/aura-1"
WHISPER = "@cf/openai/whisper"
SDXL = "@cf/stabilityai/stable-diffusion-xl-base-1.0"
SMALL = {"prompt": "a ship", "width": 64, "height": 64}
NEAR = 3  # a JPEG's colours are rounded


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=20), st.integers(1, 200), st.integers(1, 200))
def test_pictures_of_any_size_decode_to_their_colours(said: str, width: int, height: int) -> None:
    """The first stripe has the first colour, to the pixel in a PNG and nearly in a JPEG."""
    for make in (png.picture, jpeg.picture):
        with Image.open(io.BytesIO(make(said, width, height))) as picture:
            assert picture.size == (width, height)
            corner: Any = picture.convert("RGB").getpixel((width - 1, min(height, STRIPE_ROWS) - 1))
        wanted = colours(said)[0]
        if make is png.picture:
            assert corner == wanted
        elif all(40 <= part <= 215 for part in wanted):  # beyond, colours are cut off
            assert all(abs(got - part) <= NEAR for got, part in zip(corner, wanted, strict=True))


@pytest.mark.parametrize("kind", [wav, mp3])
@pytest.mark.parametrize("words", ["hello", "Grüße, 世界", ""])
def test_sounds_decode_and_hold_their_words(kind: Any, words: str) -> None:
    """A decoder hears the length that was asked for; the words can be read back."""
    file = kind.sound(words, 1.0)

    assert sound_s(file) == pytest.approx(1.0, abs=0.06)
    assert kind.read(file)[0] == words
    assert kind.read(file)[1] == pytest.approx(1.0, abs=0.06)
    assert kind.read(b"something else, and longer than a head") is None


def test_a_recording_that_nobody_knows_is_measured_by_its_size() -> None:
    """An unknown file says the usual words."""
    assert recordings.heard(bytes(8000)) == (recordings.SAID, 2.0)


def test_vectors_are_alike_where_texts_are() -> None:
    """Same words, same direction; other words, another one."""

    def floats(text: str) -> tuple[float, ...]:
        return struct.unpack("<64f", meaning.vector(text, 64))

    def likeness(one: str, other: str) -> float:
        return sum(a * b for a, b in zip(floats(one), floats(other), strict=True))

    assert likeness("the cat sat", "the cat sat") == pytest.approx(1.0, abs=1e-5)
    assert likeness("the cat sat", "the cat ran") > likeness("the cat sat", "a dog ran") + 0.2


async def test_what_is_spoken_is_heard() -> None:
    """Speech of the emulator goes back into it as a recording, in both formats, and keeps its words."""
    async with emulated() as cloud:
        for asked in ({}, {"encoding": "linear16"}):
            async with cloud.post(f"/run/{AURA}", {"text": "Good day, world", **asked}) as spoken:
                file = await spoken.read()
            status, document = await cloud.run(WHISPER, {"audio": list(file)})
            assert (status, document["result"]["text"]) == (200, "Good day, world")


async def test_speech_comes_in_pieces_and_bare_samples_without_a_head() -> None:
    """Nobody knows the length beforehand; `container: none` is nothing but samples."""
    async with emulated() as cloud:
        async with cloud.post(f"/run/{AURA}", {"text": "hello"}) as spoken:
            assert (spoken.content_type, spoken.content_length) == ("audio/mpeg", None)
        body = {"text": "hello", "encoding": "linear16", "container": "none"}
        async with cloud.post(f"/run/{AURA}", body) as bare:
            samples = await bare.read()
        status, document = await cloud.run(AURA, {"text": "hello", "encoding": "aac"})

    assert len(samples) == wav.RATE  # half a second of two bytes each
    assert (status, first_code(document)) == (400, 8007)


async def test_the_same_request_gives_the_same_picture() -> None:
    """Prompt, seed and size decide, and nothing else."""

    async def drawn(cloud: Cloud, **asked: Any) -> bytes:
        async with cloud.post(f"/run/{SDXL}", SMALL | asked) as response:
            file: bytes = await response.read()
            return file

    async with emulated() as cloud:
        first = await drawn(cloud)
        assert first == await drawn(cloud)
        assert first != await drawn(cloud, seed=2)
        assert first != await drawn(cloud, prompt="a whale")


@pytest.mark.parametrize(
    ("model", "body", "stream"),
    [
        (SDXL, SMALL, False),
        (AURA, {"text": "hello"}, False),
        (WHISPER, {"audio": list(SPOKEN[:2000])}, False),
        (CLASSIC, {"messages": said("hello")}, True),
    ],
    ids=["picture", "speech", "json", "stream"],
)
class TestFaults:
    """One fault, four kinds of replies."""

    async def test_a_refusal_takes_the_answers_place(
        self, model: str, body: dict[str, Any], stream: bool
    ) -> None:
        """Status and code are the same."""
        async with emulated() as cloud:
            asked = body | ({"stream": True} if stream else {})
            status, document = await cloud.run(model, asked, fault="code=3040")

        assert (status, first_code(document)) == (429, 3040)

    async def test_a_cut_is_seen(self, model: str, body: dict[str, Any], stream: bool) -> None:
        """The connection is reset in the middle, so no client takes the rest for a whole answer."""
        async with emulated() as cloud:
            asked = body | ({"stream": True} if stream else {})
            async with cloud.post(f"/run/{model}", asked, fault="cut_after=1") as response:
                assert response.status == 200
                with pytest.raises(aiohttp.ClientError):
                    await response.read()
            (seen,) = await cloud.settled_calls()

        assert seen["outcome"] == "cut"

    async def test_an_error_comes_inside_a_200(self, model: str, body: dict[str, Any], stream: bool) -> None:
        """JSON stands where bytes were expected; in a stream it is an event."""
        async with emulated() as cloud:
            asked = body | ({"stream": True} if stream else {})
            async with cloud.post(f"/run/{model}", asked, fault="error_after=0, code=8005") as response:
                text = await response.text()
                status, kind = response.status, response.content_type

        assert status == 200
        assert kind == ("text/event-stream" if stream else "application/json")
        assert '"code":8005' in text

    async def test_silence_lasts_until_the_client_leaves(
        self, model: str, body: dict[str, Any], stream: bool
    ) -> None:
        """A part comes, and then nothing."""
        async with emulated() as cloud:
            asked = body | ({"stream": True} if stream else {})
            response = await cloud.post(f"/run/{model}", asked, fault="stall_after=1")
            assert await response.content.readany()
            response.close()
            (seen,) = await cloud.settled_calls()

        assert seen["outcome"] == "client_left"

    async def test_slices_change_nothing(self, model: str, body: dict[str, Any], stream: bool) -> None:
        """One byte a write is the same answer."""
        small = body | ({"width": 64} if model == SDXL else {})
        asked = small | ({"stream": True} if stream else {})
        async with emulated() as cloud:
            answers = []
            for fault in (None, "bytewise"):
                async with cloud.post(f"/run/{model}", asked, fault=fault) as response:
                    answers.append(await response.read())

        assert len(answers[0]) == len(answers[1]) > 20
        assert stream or answers[0] == answers[1]


@pytest.mark.parametrize(
    ("model", "body", "unit", "count"),
    [
        (AURA, {"text": "x" * 100}, "per 1k characters input", 0.1),
        (WHISPER, {"audio": list(SPOKEN)}, "per audio minute", 1.5 / 60),
        ("@cf/baai/bge-m3", {"text": ["one two", "three"]}, "per M input tokens", 3e-6),
    ],
)
async def test_neurons_are_counted_in_the_models_own_unit(
    model: str, body: dict[str, Any], unit: str, count: float
) -> None:
    """Characters, minutes or tokens, at the listed price."""
    async with emulated() as cloud:
        await cloud.run_bytes(model, body)
        price = next(line for line in cloud.running.account.models[model].price if line.unit == unit)
        used = await cloud.neurons()

    assert used == pytest.approx(price.neurons * count)


async def test_pictures_cost_by_tile_and_step() -> None:
    """1024 by 1024 in four steps: four tiles and four steps."""
    model = "@cf/black-forest-labs/flux-1-schnell"
    async with emulated() as cloud:
        _, document = await cloud.run(model, {"prompt": "a ship"})
        prices = {line.unit: line.neurons for line in cloud.running.account.models[model].price}
        used = await cloud.neurons()

    assert picture_format(base64.b64decode(document["result"]["image"])) == "JPEG"
    assert used == pytest.approx(4 * prices["per 512x512 tile"] + 4 * prices["per step"])


@pytest.mark.parametrize(
    ("model", "body"),
    [("@cf/meta/m2m100-1.2b", {"text": "hi", "target_lang": "fr"}), (SDXL, SMALL)],
)
async def test_every_task_has_its_minute(model: str, body: dict[str, Any]) -> None:
    """720 calls of its task, then 429/3021; another task is not touched."""
    async with emulated(Settings()) as cloud:
        task = cloud.running.account.models[model].task
        for _ in range(720):
            cloud.running.account.ledger.admit(task, 720)
        status, document = await cloud.run(model, body)
        other, _ = await cloud.run(CLASSIC, {"prompt": "hi"})

    assert (status, first_code(document), other) == (429, 3021, 200)


async def test_no_task_answers_on_a_spent_day() -> None:
    """429/4006 for pictures too."""
    async with emulated(daily_neurons=1.0) as cloud:
        cloud.running.account.ledger.charge(2.0)
        status, document = await cloud.run(SDXL, SMALL)

    assert (status, first_code(document)) == (429, 4006)
