"""Predictions on Replicate, against its emulator: made, followed, cancelled, and what comes out of them."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
import struct
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import asking
import pytest
from asking import a_step, ask_for, chat
from PIL import Image

from hybrid_router.backends.errand import Unreadable
from hybrid_router.backends.replicate import Replicate, inputs, outputs
from hybrid_router.backends.replicate.account import Account
from hybrid_router.backends.replicate.backend import INLINE_BYTES
from hybrid_router.backends.replicate.refusal import failure, refusal
from hybrid_router.config.backend_schema import SecretSource
from hybrid_router.config.cloud_schema import ReplicateBackend, ReplicateModel
from hybrid_router.core.asks import Painting, Speech, Transcription
from hybrid_router.core.call import Call, Feature, ImagePart, Message, Operation, Sampling, TextPart
from hybrid_router.core.errors import (
    AccountRefused,
    BackendBusy,
    BackendError,
    BackendMisconfigured,
    BackendUnavailable,
    ContentRefused,
    Inexpressible,
    NotAble,
    RouterError,
)
from hybrid_router.core.event import (
    Embedding,
    Event,
    Finish,
    Heard,
    Picture,
    Progress,
    Segment,
    Sound,
    Text,
    Usage,
)
from hybrid_router.core.secret import Secret
from hybrid_router.core.upload import upload_of
from hybrid_router.emulator.replicate import serve
from hybrid_router.emulator.settings import Settings
from hybrid_router.emulator.stage import RunningCloud
from hybrid_router.emulator.stand_ins import wav

PLAIN = ReplicateModel()


@pytest.fixture
async def running() -> AsyncIterator[RunningCloud]:
    """The emulator, where nothing is done at once."""
    async with serve(Settings(plain_limit_s=0, queue_polls=1, token_delay_s=0.01)) as started:
        yield started


@pytest.fixture
async def backend(running: RunningCloud) -> AsyncIterator[Replicate]:
    """The adapter in front of it."""
    models = {"owner/name": ReplicateModel(can=("tools", "images"))}
    config = ReplicateBackend(models=models, token=SecretSource(), base_url=f"{running.root}/v1")
    made = Replicate("rep", config, Secret(running.token))
    yield made
    await made.close()


async def answer(backend: Replicate, call: Call, model: str = "owner/name") -> list[Event]:
    """All events of an answer."""
    return await asking.answer(backend, call, model)


async def test_a_text_is_streamed_with_its_lines(backend: Replicate, running: RunningCloud) -> None:
    """And its tokens are asked for once it is whole.  The cloud ends it by itself if we die."""
    events = await answer(backend, chat("repeat: one\n\ntwo"))

    assert "".join(event.text for event in events if isinstance(event, Text)) == "one\n\ntwo"
    assert events[-2:] == [Finish("stop"), Usage(7, 2)]
    assert running.account.calls.calls[0].headers["cancel-after"] == "9s"


async def test_the_limit_tells_how_an_answer_ended(backend: Replicate) -> None:
    """Nobody there names a reason."""
    events = await answer(backend, chat("count to 9", sampling=Sampling(max_tokens=3)))

    assert Finish("length") in events


async def test_a_stop_string_ends_the_prediction(backend: Replicate, running: RunningCloud) -> None:
    """Models there may know none: the text is cut here, and nobody pays for the rest."""
    events = await answer(backend, chat("count to 500", sampling=Sampling(stop=(" 3", ","))))
    await backend.close()

    assert "".join(event.text for event in events if isinstance(event, Text)) == "1 2"
    assert [event for event in events if isinstance(event, Finish)] == [Finish("stop")]
    assert running.account.calls.calls[-1].path.endswith("/cancel")


@pytest.mark.parametrize("model", ["owner/name", "owner/flux"], ids=["streamed", "looked at"])
async def test_who_leaves_cancels_the_prediction(
    backend: Replicate, running: RunningCloud, model: str
) -> None:
    """Nobody waits for that: it is said while the client is gone already."""
    call = (
        chat("count to 500") if model == "owner/name" else ask_for(Operation.IMAGE, "a cat", ask=Painting())
    )
    async with aclosing(backend.run(call, a_step(model))) as batches:
        await anext(batches)
    await backend.close()

    made = running.account.calls.calls[0]
    assert made.path == f"/v1/models/{model}/predictions"
    assert running.account.calls.calls[-1].path.endswith("/cancel")


async def test_who_leaves_while_it_is_made_cancels_it_too(backend: Replicate, running: RunningCloud) -> None:
    """As soon as its id is known."""
    waiting = asyncio.create_task(
        answer(backend, ask_for(Operation.IMAGE, "a cat", ask=Painting()), "owner/flux")
    )
    await running.account.calls.arrived(1, 5)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await backend.close()

    assert waiting.cancelled()
    assert running.account.calls.calls[-1].path.endswith("/cancel")


async def test_a_picture_is_fetched_without_the_token(backend: Replicate, running: RunningCloud) -> None:
    """Each of several is a prediction of its own; a sign of life comes first."""
    ask = Painting(width=32, height=16)
    events = await answer(backend, ask_for(Operation.IMAGE, "a cat", ask=ask, n=2), "owner/flux")
    pictures = [event for event in events if isinstance(event, Picture)]

    assert isinstance(events[0], Progress)
    assert [picture.index for picture in pictures] == [0, 1]
    assert all(Image.open(io.BytesIO(each.content)).size == (32, 16) for each in pictures)
    fetched = [seen for seen in running.account.calls.calls if seen.path.startswith("/delivery/")]
    assert len(fetched) == 2
    assert all("authorization" not in seen.headers for seen in fetched)


@pytest.mark.parametrize(
    "address",
    [
        "https://replicate.delivery.elsewhere.test/out",
        "https://elsewhere.test/out",
        "http://replicate.delivery/out",
        "file:///etc/passwd",
        "https://[",
    ],
)
async def test_a_file_elsewhere_is_not_fetched(address: str) -> None:
    """Whatever an answer names: nobody is asked, not even for a name's address."""
    account = Account("https://api.replicate.test/v1", Secret("t"))
    with pytest.raises(BackendError, match="not its own"):
        await account.fetched(address, 5.0)
    await account.close()


async def test_vectors_have_length_one(backend: Replicate) -> None:
    """Each text is a prediction of its own."""
    events = await answer(backend, ask_for(Operation.EMBED, "one", "two"), "owner/embed")
    found = [event for event in events if isinstance(event, Embedding)]

    assert [each.index for each in found] == [0, 1]
    for each in found:
        values = struct.unpack(f"<{len(each.values) // 4}f", each.values)
        assert math.isclose(math.hypot(*values), 1.0, abs_tol=1e-5)


async def test_a_text_is_spoken(backend: Replicate) -> None:
    """In the model's own format alone: another is refused, with a word on which it is."""
    events = await answer(
        backend, ask_for(Operation.SPEAK, "hi there", ask=Speech(), stream=True), "owner/tts"
    )
    assert b"".join(event.content for event in events if isinstance(event, Sound)).startswith(b"ID3")

    with pytest.raises(Inexpressible, match="response_format: mp3"):
        await answer(backend, ask_for(Operation.SPEAK, "hi", ask=Speech(format="wav")), "owner/tts")


@pytest.mark.parametrize("length_s", [1.0, 12.0], ids=["in the request", "put there first"])
async def test_a_recording_is_written_down(
    backend: Replicate, running: RunningCloud, length_s: float
) -> None:
    """A large one is put there for it, and taken away again."""
    upload = upload_of(wav.sound("hello world", length_s), "a.wav", "audio/wav")
    call = ask_for(Operation.TRANSCRIBE, ask=Transcription(), uploads=(upload,))
    events = await answer(backend, call, "owner/whisper")
    await backend.close()
    upload.close()

    assert [event.duration_s for event in events if isinstance(event, Heard)] == [length_s]
    assert [event.text.strip() for event in events if isinstance(event, Segment)] == ["hello world"]
    seen = [each.path.removeprefix("/v1/").split("/")[0] for each in running.account.calls.calls]
    assert seen.count("files") == (2 if upload.size_bytes > INLINE_BYTES else 0)


def test_inputs_are_called_as_router_yaml_says() -> None:
    """A name of the model's own, none at all, and what is the same for every call."""
    model = ReplicateModel(
        input={"prompt": "text_prompt", "width": ""}, fixed={"go_fast": "true", "style": "ink", "n": "3"}
    )
    (wanted,) = inputs.wanted(ask_for(Operation.IMAGE, "a cat", ask=Painting(width=64, steps=4)), model, None)

    assert inputs.named(wanted.fields, model) == {
        "text_prompt": "a cat",
        "num_inference_steps": 4,
        "output_format": "png",
        "go_fast": True,
        "style": "ink",
        "n": 3,
    }


def test_a_conversation_becomes_one_prompt() -> None:
    """Or stays one, where the model has an input for it."""
    said = (
        Message(role="system", content="Be brief."),
        Message(role="user", content=[TextPart("hi"), ImagePart({"url": "data:image/png;base64,AAAA"})]),
        Message(role="assistant", content="hello"),
        Message(role="user", content="bye"),
    )
    (wanted,) = inputs.wanted(chat(*said), PLAIN, 99)
    fields = inputs.named(wanted.fields, PLAIN)
    assert fields == {
        "prompt": "User: hi\n\nAssistant: hello\n\nUser: bye\n\nAssistant:",
        "system_prompt": "Be brief.",
        "image": "data:image/png;base64,AAAA",
        "max_tokens": 99,
    }

    model = ReplicateModel(input={"messages": "messages"})
    (wanted,) = inputs.wanted(chat("hi"), model, None)
    assert inputs.named(wanted.fields, model) == {"messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    "call",
    [
        chat("hi", tools=({"type": "function"},)),
        chat("hi", response_format={"type": "json_object"}),
        chat("hi", Message(role="tool", content="x", tool_call_id="1")),
        chat(Message(role="system", content="alone")),
        ask_for(Operation.IMAGE, "a cat", ask=Painting(masked=True)),
        Call(id="c1", operation=Operation.EMBED, alias="a", prompts=((1, 2),)),
    ],
)
def test_what_has_no_input_is_not_left_out(call: Call) -> None:
    """Another step may have one."""
    with pytest.raises(Inexpressible):
        inputs.wanted(call, PLAIN, None)


def test_only_what_has_an_input_is_claimed(backend: Replicate) -> None:
    """Whatever router.yaml declares."""
    assert backend.features("owner/name") == {Feature.IMAGES}


@pytest.mark.parametrize(
    "output",
    [
        " hello",
        {"text": " hello", "language": "english"},
        {"transcription": "x", "segments": [{"start": 0, "end": 1.5, "text": " hello"}]},
        {"text": "x", "chunks": [{"timestamp": [0, 1.5], "text": " hello"}]},
        {"text": "x", "chunks": [{"timestamp": [1.5, None], "text": " hello"}]},
    ],
)
def test_a_transcript_is_read_however_its_author_wrote_it(output: Any) -> None:
    """Parts count more than the whole; a language that is no code is not passed on as one."""
    heard, segment, *_ = outputs.transcript(output, "en")

    assert isinstance(heard, Heard)
    assert isinstance(segment, Segment)
    assert (heard.language, segment.text) == ("en", " hello")


@pytest.mark.parametrize("output", [None, 7, {"segments": []}, [1]])
def test_what_is_no_answer_is_no_answer(output: Any) -> None:
    """Of any kind: neither text, transcript nor file is made of it."""
    for read in (outputs.text, outputs.address, lambda output: outputs.transcript(output, None)):
        with pytest.raises(Unreadable):
            read(output)
    with pytest.raises(Unreadable):
        outputs.picture(b"<html>", 0)
    with pytest.raises(Unreadable):
        outputs.embedding([0.0, 0.0], 0)


def test_a_file_may_be_in_its_address() -> None:
    """Some models answer so; what is no base64 is no file."""
    assert outputs.within("data:image/png;base64," + base64.b64encode(b"x").decode()) == b"x"
    assert outputs.within("https://replicate.delivery/x") is None
    with pytest.raises(Unreadable):
        outputs.within("data:image/png;base64,!")


@pytest.mark.parametrize(
    ("status", "title", "named"),
    [
        (401, "Unauthenticated", AccountRefused),
        (402, "Insufficient credit", AccountRefused),
        (404, "Not found", BackendMisconfigured),
        (422, "Input validation failed", NotAble),
        (422, "Invalid version or not permitted", BackendMisconfigured),
        (429, "Too many requests", BackendBusy),
        (503, "", BackendUnavailable),
    ],
)
def test_a_problem_is_named(status: int, title: str, named: type[RouterError]) -> None:
    """By its status, and by its title where one status says two things."""
    body = json.dumps({"title": title, "detail": "why", "status": status}).encode()
    assert type(refusal(status, {}, body, now=datetime.now(UTC))) is named


@pytest.mark.parametrize(
    ("status", "words", "named"),
    [
        ("failed", "NSFW content detected", ContentRefused),
        ("failed", "Prediction interrupted; please retry (code: PA)", BackendUnavailable),
        ("failed", "CUDA out of memory", BackendError),
        ("canceled", None, BackendError),
    ],
)
def test_a_prediction_that_failed_is_named(status: str, words: str | None, named: type[RouterError]) -> None:
    """In the model's own words, as far as they are known."""
    assert type(failure(status, words)) is named
