"""Every operation against the emulated router and task API, and odd replies of real ones."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from asking import ask_for, last_answer

from hybrid_router.backends.huggingface import HuggingFace
from hybrid_router.config.backend_schema import SecretSource
from hybrid_router.config.cloud_schema import CloudModel, HuggingFaceBackend
from hybrid_router.core.asks import (
    Classification,
    Moderation,
    Painting,
    Speech,
    Transcription,
    Translation,
)
from hybrid_router.core.call import Call, Message, Operation, Sampling
from hybrid_router.core.errors import BackendError, BackendUnavailable, Inexpressible, RouterError
from hybrid_router.core.event import (
    Embedding,
    Event,
    Finish,
    Heard,
    Label,
    Picture,
    Relevance,
    Segment,
    Sound,
    Text,
    Usage,
    Verdict,
)
from hybrid_router.core.secret import Secret
from hybrid_router.core.upload import upload_of
from hybrid_router.emulator.fault import Fault
from hybrid_router.emulator.huggingface import serve
from hybrid_router.emulator.settings import Settings
from hybrid_router.emulator.stage import RunningCloud
from hybrid_router.emulator.stand_ins import png, wav

TOKEN = "hf_canary"
DOES: Any = tuple(Operation)


@pytest.fixture
async def cloud() -> AsyncIterator[RunningCloud]:
    """The emulator."""
    async with serve(Settings(token=TOKEN)) as running:
        yield running


async def told(root: str, call: Call, model: str) -> list[Event]:
    """What a model there answers."""
    config = HuggingFaceBackend(
        models={model: CloudModel(does=DOES)},
        token=SecretSource(),
        base_url=f"{root}/v1",
        tasks_url=f"{root}/hf-inference",
    )
    backend = HuggingFace("hf", config, Secret(TOKEN))
    return await last_answer(backend, call, model)


def text_of(events: list[Event], index: int = 0) -> str:
    """One choice's text."""
    return "".join(event.text for event in events if isinstance(event, Text) and event.index == index)


def paths(cloud: RunningCloud) -> list[str]:
    """What was asked."""
    return [call.path for call in cloud.account.calls.calls]


async def test_choices_are_asked_for_one_by_one(cloud: RunningCloud) -> None:
    """Most providers give one, whatever is asked for; all of their usage is counted."""
    call = Call(
        id="c1",
        operation=Operation.CHAT,
        alias="a",
        messages=(Message(role="user", content="count to 3"),),
        n=2,
        sampling=Sampling(seed=5),
    )
    events = await told(cloud.root, call, "org/name:provider")

    assert (text_of(events, 0), text_of(events, 1)) == ("1 2 3", "1 2 3")
    assert [event.index for event in events if isinstance(event, Finish)] == [0, 1]
    assert [seen.body["seed"] for seen in cloud.account.calls.calls] == [5, 6]
    assert sum(isinstance(event, Usage) for event in events) == 1
    assert isinstance(events[-1], Usage)
    assert events[-1].completion_tokens == 6


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("org/mini", "/hf-inference/models/org/mini/pipeline/feature-extraction"),
        ("org/mini:nebius", "/v1/embeddings"),
    ],
)
async def test_who_embeds_is_told_by_the_name(cloud: RunningCloud, model: str, path: str) -> None:
    """A provider in OpenAI's form, or the task API; vectors of length 1 either way."""
    events = await told(cloud.root, ask_for(Operation.EMBED, "a cat", "a dog"), model)
    vectors = [event.values for event in events if isinstance(event, Embedding)]

    assert paths(cloud) == [path]
    assert len(vectors) == 2
    for one in vectors:
        assert math.isclose(math.hypot(*struct.unpack(f"<{len(one) // 4}f", one)), 1, abs_tol=1e-4)


async def test_documents_are_compared(cloud: RunningCloud) -> None:
    """By how near they are."""
    call = ask_for(Operation.RERANK, "a dog", "a cat sat", query="a cat sat")
    scores = [e.score for e in await told(cloud.root, call, "org/mini") if isinstance(e, Relevance)]

    assert scores[1] > scores[0]
    assert paths(cloud) == ["/hf-inference/models/org/mini/pipeline/sentence-similarity"]


async def test_a_completion_is_what_follows(cloud: RunningCloud) -> None:
    """The prompt that is repeated is taken off; a summary is told by its own name."""
    call = ask_for(Operation.COMPLETE, "count to 3", sampling=Sampling(max_tokens=99))

    assert text_of(await told(cloud.root, call, "org/text-generation")).strip() == "1 2 3"
    assert text_of(await told(cloud.root, call, "org/summarization")).strip() == "1 2 3"


async def test_texts_are_translated_one_by_one(cloud: RunningCloud) -> None:
    """Each is its own answer."""
    call = ask_for(Operation.TRANSLATE, "hello", "world", ask=Translation(target="de", source="en"))
    events = await told(cloud.root, call, "org/translation")

    assert (text_of(events, 0), text_of(events, 1)) == ("[de] hello", "[de] world")


async def test_a_recording_goes_as_it_is(cloud: RunningCloud) -> None:
    """Its bytes, under its own type."""
    upload = upload_of(wav.sound("good morning", 1.0), "talk.wav", "audio/wav")
    call = ask_for(Operation.TRANSCRIBE, ask=Transcription(), uploads=(upload,))
    events = await told(cloud.root, call, "org/automatic-speech-recognition")
    upload.close()

    assert isinstance(events[0], Heard)
    assert "good morning" in "".join(event.text for event in events if isinstance(event, Segment))
    assert cloud.account.calls.calls[0].body == {"media_type": "audio/wav", "size_bytes": upload.size_bytes}


async def test_speech_comes_in_the_model_s_own_format(cloud: RunningCloud) -> None:
    """Another one that was asked for cannot be had, and the refusal says which can."""
    events = await told(
        cloud.root, ask_for(Operation.SPEAK, "hi", ask=Speech(format="wav")), "org/text-to-speech"
    )

    assert b"".join(event.content for event in events if isinstance(event, Sound)).startswith(b"RIFF")
    with pytest.raises(Inexpressible, match="response_format wav"):
        await told(cloud.root, ask_for(Operation.SPEAK, "hi", ask=Speech()), "org/text-to-speech")


async def test_pictures_are_drawn_one_by_one(cloud: RunningCloud) -> None:
    """As files, each with a seed of its own."""
    call = ask_for(
        Operation.IMAGE, "a cat", n=2, ask=Painting(width=64, height=64), sampling=Sampling(seed=1)
    )
    events = await told(cloud.root, call, "org/text-to-image")

    assert [event.index for event in events if isinstance(event, Picture)] == [0, 1]
    assert [seen.body["parameters"]["seed"] for seen in cloud.account.calls.calls] == [1, 2]


async def test_an_image_is_classified(cloud: RunningCloud) -> None:
    """The likeliest labels first, and no more than are wanted."""
    upload = upload_of(png.picture("a cat", 64, 64), "cat.png", "image/png")
    call = ask_for(Operation.CLASSIFY, ask=Classification(top_k=2), uploads=(upload,))
    labels = [e for e in await told(cloud.root, call, "org/image-classification") if isinstance(e, Label)]
    upload.close()

    assert len(labels) == 2
    assert labels[0].score >= labels[1].score


async def test_labels_of_a_classifier_become_verdicts(cloud: RunningCloud) -> None:
    """In OpenAI's categories."""
    call = ask_for(Operation.MODERATE, "hello", "I will kill you", ask=Moderation())
    events = await told(cloud.root, call, "org/text-classification")
    verdicts = [event for event in events if isinstance(event, Verdict)]

    assert [bool(verdict.flagged) for verdict in verdicts] == [False, True]
    assert verdicts[1].flagged == ("harassment",)


async def test_a_model_that_is_being_loaded_says_how_long(cloud: RunningCloud) -> None:
    """The estimate is kept as advice on when to come back."""
    cloud.account.faults.add(Fault(status=503, message="Model is currently loading"))
    with pytest.raises(BackendUnavailable) as caught:
        await told(cloud.root, ask_for(Operation.EMBED, "x"), "org/mini")

    assert caught.value.retry_after_s == 20


async def test_a_task_that_nobody_does_there_is_a_mistake_of_the_policy(cloud: RunningCloud) -> None:
    """It is named, and the next step may try."""
    with pytest.raises(BackendError, match="no such model"):
        await told(cloud.root, ask_for(Operation.IMAGE, "x", ask=Painting()), "org/nothing")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (ask_for(Operation.COMPLETE, "x", n=2), "once"),
        (ask_for(Operation.COMPLETE, "x", sampling=Sampling(stop=("a",))), "stop"),
        (ask_for(Operation.COMPLETE, "x", sampling=Sampling(seed=7)), "seed"),
        (ask_for(Operation.COMPLETE, "x", sampling=Sampling(presence_penalty=0.5)), "presence_penalty"),
        (ask_for(Operation.COMPLETE, "x", echo=True), "echo"),
        (ask_for(Operation.SPEAK, "x", ask=Speech(speed=2.0)), "speed"),
        (ask_for(Operation.TRANSCRIBE, ask=Transcription(words=True)), "times of words"),
    ],
)
async def test_what_it_has_no_words_for_is_named(call: Call, words: str) -> None:
    """Before anything is sent."""
    with pytest.raises(Inexpressible, match=words):
        await told("http://127.0.0.1:9", call, "org/name")


ODD: dict[str, tuple[Operation, Any, str]] = {
    "a vector of each token": (Operation.EMBED, [[[0.1, 0.2]]], "without a vector"),
    "too few vectors": (Operation.EMBED, [], "vectors of 0"),
    "too few scores": (Operation.RERANK, [], "ranked 0"),
    "an error in a 200": (Operation.EMBED, {"error": "CUDA out of memory"}, "failed"),
    "a list of errors": (Operation.EMBED, {"error": ["a", "b"]}, "failed"),
    "no text": (Operation.COMPLETE, [{}], "without a text"),
    "no labels": (Operation.CLASSIFY, [], "no label"),
    "JSON for a picture": (Operation.IMAGE, {"images": []}, "failed"),
    "numbered labels": (Operation.MODERATE, [[{"label": "LABEL_0", "score": 0.9}]], "numbers its labels"),
}


@pytest.mark.parametrize("name", ODD)
async def test_an_odd_reply_lets_the_next_step_try(name: str) -> None:
    """Nothing of it passes for an answer."""
    operation, document, words = ODD[name]

    async def respond(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=json.dumps(document), content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", respond)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
    await runner.setup()
    upload = upload_of(b"x")
    uploads = (upload,) if operation is Operation.CLASSIFY else ()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        root = f"http://127.0.0.1:{runner.addresses[0][1]}"
        with pytest.raises(RouterError, match=words):
            await told(root, ask_for(operation, "x", query="q", uploads=uploads), "org/name")
    finally:
        upload.close()
        await runner.cleanup()
