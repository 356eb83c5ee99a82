"""What a call may come to in every unit, before anything is sent, and what it came to."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from priced_steps import priced

from hybrid_router.catalogue import workers_ai
from hybrid_router.catalogue.prices import Work, neurons, tiles
from hybrid_router.config.load import loads
from hybrid_router.core.asks import Classification, Moderation, Painting, Speech, Transcription, Translation
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.event import Usage
from hybrid_router.core.upload import Upload, upload_of
from hybrid_router.routing.ledger import NEURON_USD, most, most_work, price
from hybrid_router.routing.rates import rates
from hybrid_router.routing.work import done

FLUX, WHISPER, AURA = "@cf/black-forest-labs/flux-1-schnell", "@cf/openai/whisper", "@cf/deepgram/aura-1"
LISTED = {model.id: model for model in workers_ai.load().models}


def asking(operation: Operation, *prompts: str, **more: Any) -> Call:
    """A call of some operation."""
    return Call(id="c", operation=operation, alias="a", prompts=prompts, **more)


def at_most(model: str, call: Call, prompt_tokens: int = 0) -> float:
    """What a call may cost, with a default of 2,048 tokens."""
    return most(priced(model), call, prompt_tokens, 2048)


@contextmanager
def recording(seconds: float, *, wave: bool = True, size_bytes: int = 0) -> Iterator[Upload]:
    """A file that is that long, or is no WAVE file."""
    sound = b"\0" * (int(seconds * 16_000) if wave else size_bytes)
    head = b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16_000, 2, 16)
    file = upload_of(head + b"data" + struct.pack("<I", len(sound)) + sound if wave else sound)
    try:
        yield file
    finally:
        file.close()


@pytest.mark.parametrize(
    ("model", "ask", "n", "expected"),
    [
        (FLUX, Painting(), 1, 4 * 4.8 + 4 * 9.6),
        (FLUX, Painting(steps=8), 3, 3 * (4 * 4.8 + 8 * 9.6)),
        (FLUX, Painting(steps=50), 1, 4 * 4.8 + 8 * 9.6),
        ("@cf/leonardo/phoenix-1.0", Painting(width=512, height=1024, steps=10), 2, 2 * (2 * 530 + 100)),
        ("@cf/black-forest-labs/flux-2-klein-4b", Painting(), 1, 4 * 26.05),
        ("@cf/black-forest-labs/flux-2-klein-9b", Painting(width=1920, height=1080), 1, 1363.64 + 181.82),
        ("@cf/black-forest-labs/flux-2-dev", Painting(width=512, height=512, steps=20), 1, 750),
    ],
)
def test_pictures_are_priced_before_they_are_made(model: str, ask: Painting, n: int, expected: float) -> None:
    """Within a tenth of the published price of what is asked for; here to the digit."""
    assert at_most(model, asking(Operation.IMAGE, "a cat", ask=ask, n=n)) == pytest.approx(expected)


def test_pictures_that_are_given_count_too() -> None:
    """A tile and a megapixel for each, but none for the mask."""
    with recording(0) as one, recording(0) as two:
        given = asking(Operation.IMAGE, "a cat", ask=Painting(masked=True), uploads=(one, two))
        assert at_most("@cf/black-forest-labs/flux-2-klein-4b", given) == pytest.approx(4 * 26.05 + 5.37)


def test_characters_are_priced_before_they_are_spoken() -> None:
    """To the digit where characters are paid; at the slowest pace where minutes are."""
    said = asking(Operation.SPEAK, "x" * 500, ask=Speech())

    assert at_most(AURA, said) == pytest.approx(681.82)
    assert at_most("@cf/myshell-ai/melotts", said) == pytest.approx(500 / 8 / 60 * 18.63)


def test_a_recording_is_priced_by_its_head() -> None:
    """A WAVE file exactly, any other by the most that so many bytes may hold; English costs twice."""
    with recording(30.0) as known, recording(0, wave=False, size_bytes=60_000) as other:
        heard = asking(Operation.TRANSCRIBE, uploads=(known,), ask=Transcription())
        unsure = asking(Operation.TRANSCRIBE, uploads=(other,), ask=Transcription())
        english = asking(Operation.TRANSCRIBE, uploads=(known,), ask=Transcription(translates=True))

        assert at_most(WHISPER, heard) == pytest.approx(41.14 / 2)
        assert at_most(WHISPER, unsure) == pytest.approx(41.14)
        assert at_most(WHISPER, english) == pytest.approx(41.14)
    assert at_most(WHISPER, unsure) == pytest.approx(41.14)  # a file that is closed has its size still


def test_what_writes_no_text_reserves_no_answer() -> None:
    """Embeddings and rankings cost twice their estimate; labels of a picture, the picture."""
    with recording(0) as picture:
        seen = asking(Operation.CLASSIFY, ask=Classification(), uploads=(picture,))
        assert at_most("@cf/microsoft/resnet-50", seen) == pytest.approx(0.228055)
    assert at_most("@cf/baai/bge-m3", asking(Operation.EMBED, "a", "b"), 1000) == pytest.approx(2.15)
    assert at_most("@cf/baai/bge-reranker-base", asking(Operation.RERANK, "a"), 1000) == pytest.approx(0.566)
    unpriced = "@cf/google/embeddinggemma-300m"
    assert at_most(unpriced, asking(Operation.EMBED, "a"), 1000) < 100


def test_a_translation_model_cannot_go_on_and_on() -> None:
    """Twice the text and an answer of three times its tokens, and no order as a chat model needs."""
    asked = asking(Operation.TRANSLATE, "hello", ask=Translation(target="de"))

    assert at_most("@cf/meta/m2m100-1.2b", asked, 100) == pytest.approx((200 + 300 + 16) * 31_050 / 1e6)


def test_a_verdict_is_short() -> None:
    """64 tokens for each text, whatever the default of an answer is."""
    asked = asking(Operation.MODERATE, "a", "b", ask=Moderation())

    assert at_most("@cf/meta/llama-guard-3-8b", asked, 100) == pytest.approx(
        (200 * 44_003 + 128 * 2_730) / 1e6
    )


def test_no_task_is_charged_as_a_chat() -> None:
    """A picture, a minute or a sentence of any listed model is far below a chat with the dearest."""
    dearest = at_most("@cf/somebody/unknown", asking(Operation.CHAT), 100)

    with recording(10.0) as file:
        for task, call in {
            "Text Embeddings": asking(Operation.EMBED, "a"),
            "Automatic Speech Recognition": asking(
                Operation.TRANSCRIBE, uploads=(file,), ask=Transcription()
            ),
            "Text Classification": asking(Operation.RERANK, "a"),
            "Image Classification": asking(Operation.CLASSIFY, ask=Classification(), uploads=(file,)),
        }.items():
            for model in LISTED.values():
                if model.task == task:
                    assert at_most(model.id, call, 10) < dearest / 10, model.id


def test_an_unpriced_model_costs_as_the_dearest_of_its_task() -> None:
    """As what makes the same, at its own size, never as a chat; or as router.yaml says."""
    asked = asking(Operation.IMAGE, "a cat", ask=Painting())
    sdxl = "@cf/stabilityai/stable-diffusion-xl-base-1.0"
    by_hand = priced(
        sdxl, f'{{"{sdxl}": {{input: 0, output: 0, picture: 7, minute: 60, thousand_characters: 9}}}}'
    )

    assert at_most(sdxl, asked) == pytest.approx(tiles(1024, 1024) * 20 * 37.5)
    assert most(by_hand, asked, 0, 0) == 7
    assert price(by_hand, Work(sound_s=2, characters_count=1000)) == 2 + 9


def test_what_was_counted_replaces_what_was_expected() -> None:
    """Tokens and seconds as they are told, exactly; pictures and characters as they were known."""
    with recording(0, wave=False, size_bytes=600_000) as file:
        heard = asking(Operation.TRANSCRIBE, uploads=(file,), ask=Transcription())
        expected = most_work(priced(WHISPER), heard, 0, 0)
    told = Usage(prompt_tokens=11, completion_tokens=3, cached_tokens=2, sound_s=90.0)
    chat = most_work(priced("@cf/moonshotai/kimi-k2.6"), asking(Operation.COMPLETE, "a"), 50, 100)

    assert price(priced(WHISPER), done(expected, told)) == pytest.approx(61.71)
    assert (
        price(priced("@cf/moonshotai/kimi-k2.6"), done(chat, told))
        == (9 * 86_364 + 2 * 14_545 + 3 * 363_636) / 1_000_000
    )
    painted = most_work(priced(FLUX), asking(Operation.IMAGE, "a", ask=Painting()), 0, 0)
    assert neurons(priced(FLUX).beyond, done(painted, Usage(0, 0))) == pytest.approx(57.6)


def test_dollars_are_no_neurons() -> None:
    """A declared price counts in dollars for the call, and nothing of it for an account's day."""
    config = loads("""\
backends:
  local: {type: local, models: {small: {}}}
  o: {type: openai, models: {big: {price: {input: 2, output: 8}}, free: {}}}
aliases:
  default: {try: [local/small, o/big, o/free]}
""").config
    found = rates(config, workers_ai.load())
    amount = most(found["o/big"], asking(Operation.COMPLETE, "a"), 500_000, 1_000_000)

    assert list(found) == ["o/big"]
    assert amount == 2 + 8
    assert (found["o/big"].usd(amount), found["o/big"].neurons(amount)) == (10, 0)
    assert priced(FLUX).usd(57.6) == pytest.approx(57.6 * NEURON_USD)
