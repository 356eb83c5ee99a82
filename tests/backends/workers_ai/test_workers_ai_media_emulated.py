"""Sound and pictures of the emulator: what the backend sends is what the contract takes, model by model."""

from __future__ import annotations

import io

import pytest
from emulated_cloud import emulating
from media_calls import NOVA, TINY, TURBO, WHISPER, answered, hear, paint, picture, speak
from PIL import Image

from hybrid_router.core.call import Call
from hybrid_router.core.event import Event, Finish, Heard, Picture, Segment, Sound, Usage
from hybrid_router.emulator.settings import Settings

pytestmark = pytest.mark.usefixtures("own_uploads")

PAINTERS = [
    "@cf/black-forest-labs/flux-1-schnell",
    "@cf/black-forest-labs/flux-2-dev",
    "@cf/bytedance/stable-diffusion-xl-lightning",
    "@cf/leonardo/lucid-origin",
    "@cf/leonardo/phoenix-1.0",
    "@cf/stabilityai/stable-diffusion-xl-base-1.0",
]


async def emulated(model: str, call: Call) -> list[Event]:
    """An answer of the emulator."""
    async with emulating(Settings(paid=True)) as (backend, _):
        return await answered(backend, call, model)


@pytest.mark.parametrize("model", [WHISPER, TINY, TURBO, NOVA])
async def test_every_listener_is_understood(model: str) -> None:
    """Text with times of its words, in the length that the recording has."""
    told = await emulated(model, hear(words=True))

    heard, *segments = told[:-2]
    assert isinstance(heard, Heard)
    assert heard.duration_s == pytest.approx(2.0, abs=0.1)
    assert all(isinstance(each, Segment) and each.text.strip() and each.words for each in segments)
    assert told[-2:] == [Finish("stop"), Usage(0, 0, sound_s=heard.duration_s)]


@pytest.mark.parametrize("model", [WHISPER, TURBO, NOVA])
async def test_every_listener_translates(model: str) -> None:
    """By itself or with another's help, the text is there, and finished."""
    told = await emulated(model, hear(translates=True))

    assert any(isinstance(event, Segment) for event in told)
    assert Finish("stop") in told


@pytest.mark.parametrize("model", ["@cf/deepgram/aura-1", "@cf/deepgram/aura-2-es", "@cf/myshell-ai/melotts"])
async def test_every_speaker_speaks(model: str) -> None:
    """The sound begins as the format does, and ends."""
    told = await emulated(model, speak())

    assert isinstance(told[0], Sound)
    assert told[-1] == Finish("stop")


@pytest.mark.parametrize("model", PAINTERS)
async def test_every_painter_paints(model: str) -> None:
    """Two pictures that an image library opens."""
    pictures = [event for event in await emulated(model, paint(n=2)) if isinstance(event, Picture)]

    assert [each.index for each in pictures] == [0, 1]
    for each in pictures:
        with Image.open(io.BytesIO(each.content)) as image:
            image.load()


@pytest.mark.parametrize("model", [PAINTERS[1], PAINTERS[2], PAINTERS[-1]])
async def test_every_editor_takes_a_picture(model: str) -> None:
    """In a form or in JSON, as the model wants it."""
    told = await emulated(model, paint(picture()))

    assert any(isinstance(event, Picture) for event in told)
