"""What a call is expected to cost, and is counted with, against what the other side charges."""

from __future__ import annotations

import io
import wave
from typing import Any

import pytest
from emulated_cloud import emulating
from scripted_cloud import answer, chat

from hybrid_router.catalogue import workers_ai as catalogue
from hybrid_router.config.load import loads
from hybrid_router.core.asks import Painting, Speech, Transcription
from hybrid_router.core.call import Call, Operation, Sampling
from hybrid_router.core.event import Usage
from hybrid_router.core.upload import upload_of
from hybrid_router.routing.ledger import Rate, most, most_work, price
from hybrid_router.routing.rates import rates
from hybrid_router.routing.work import done

FLUX, KLEIN = "@cf/black-forest-labs/flux-1-schnell", "@cf/black-forest-labs/flux-2-klein-4b"
AURA, WHISPER, GLM = "@cf/deepgram/aura-1", "@cf/openai/whisper", "@cf/zai-org/glm-4.7-flash"


def rate(model: str) -> Rate:
    """The published price of a step."""
    config = loads(f"""\
backends:
  local: {{type: local, models: {{small: {{}}}}}}
  cf: {{type: workers_ai, account_id: {{env: A}}, token: {{env: T}}}}
aliases:
  default: {{try: [local/small, "cf/{model}"]}}
""").config
    return rates(config, catalogue.load())[f"cf/{model}"]


def asking(operation: Operation, *prompts: str, **more: Any) -> Call:
    """A call of some operation."""
    return Call(id="c", operation=operation, alias="a", prompts=prompts, **more)


def recording(seconds: float) -> bytes:
    """A WAVE file of silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(16_000)
        written.writeframes(b"\0\0" * int(16_000 * seconds))
    return file.getvalue()


@pytest.mark.parametrize(
    ("model", "call"),
    [
        (FLUX, asking(Operation.IMAGE, "a cat", ask=Painting(format="jpeg"), n=2)),
        (FLUX, asking(Operation.IMAGE, "a cat", ask=Painting(format="jpeg", steps=8))),
        (KLEIN, asking(Operation.IMAGE, "a cat", ask=Painting(format="jpeg", width=512, height=768))),
        (AURA, asking(Operation.SPEAK, "Good morning to all of you.", ask=Speech(), stream=True)),
    ],
    ids=["two pictures", "more steps", "a size", "speech"],
)
async def test_what_is_known_before_the_call_is_what_is_charged(model: str, call: Call) -> None:
    """Pictures and characters: within a tenth, and so is what is counted when nobody tells."""
    async with emulating() as (backend, cloud):
        told = await answer(backend, call, model)
        charged = cloud.account.ledger.used
    usage = next((event for event in told if isinstance(event, Usage)), Usage(0, 0))
    expected = most_work(rate(model), call, 10, 2048)

    assert charged > 0
    assert most(rate(model), call, 10, 2048) == pytest.approx(charged, rel=0.1)
    assert price(rate(model), done(expected, usage)) == pytest.approx(charged, rel=0.1)


async def test_a_recordings_length_is_known_before_the_call() -> None:
    """That of a WAVE file is in its head: the price of its minutes, within a tenth."""
    with_sound = upload_of(recording(12.0), "a.wav", "audio/wav")
    call = asking(Operation.TRANSCRIBE, uploads=(with_sound,), ask=Transcription())
    try:
        async with emulating() as (backend, cloud):
            await answer(backend, call, WHISPER)
            charged = cloud.account.ledger.used
        assert most(rate(WHISPER), call, 0, 2048) == pytest.approx(12 / 60 * 41.14)
        assert charged == pytest.approx(12 / 60 * 41.14, rel=0.1)
    finally:
        with_sound.close()


async def test_tokens_as_reported_are_charged_to_the_last_neuron() -> None:
    """Before the call it is the most that it may come to; after it, the sum that the other side made."""
    call = chat("hello there", sampling=Sampling(max_tokens=40))
    async with emulating() as (backend, cloud):
        told = await answer(backend, call, GLM)
        charged = cloud.account.ledger.used
    usage = told[-1]

    assert isinstance(usage, Usage)
    work = most_work(rate(GLM), call, 10, 2048)
    assert price(rate(GLM), done(work, usage)) == charged
    assert price(rate(GLM), work) >= charged
