"""Every operation against the emulated API, and the ways in which a real one may answer oddly."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from asking import MODEL, ask_for, chat
from asking import last_answer as answer
from openai_cloud import TOKEN, Reply, make, server

from hybrid_router.backends.openai.backend import VIA
from hybrid_router.config.cloud_schema import CloudModel
from hybrid_router.core.asks import Moderation, Painting, Speech, Transcription
from hybrid_router.core.call import Call, Message, Operation, Sampling
from hybrid_router.core.errors import (
    BackendError,
    BackendMisconfigured,
    Inexpressible,
    RouterError,
    StreamBroken,
)
from hybrid_router.core.event import (
    Embedding,
    Event,
    Finish,
    Heard,
    Picture,
    Relevance,
    Segment,
    Sound,
    Text,
    Usage,
    Verdict,
    Word,
)
from hybrid_router.core.upload import Upload, upload_of
from hybrid_router.emulator.openai import serve
from hybrid_router.emulator.settings import Settings
from hybrid_router.emulator.stage import RunningCloud
from hybrid_router.emulator.stand_ins import png, wav

ALL = CloudModel(
    does=("chat", "complete", "embed", "rerank", "transcribe", "speak", "image", "moderate"),
    can=("logprobs", "prefill", "speech_translation", "image_input", "inpainting", "images"),
)


@pytest.fixture
async def cloud() -> AsyncIterator[RunningCloud]:
    """The emulator."""
    async with serve(Settings(token=TOKEN)) as running:
        yield running


@pytest.fixture
def recording() -> Iterator[Upload]:
    """A second of sound that says something."""
    upload = upload_of(wav.sound("good morning", 1.0), 'my "talk".wav', "audio/wav")
    yield upload
    upload.close()


@pytest.fixture
def image() -> Iterator[Upload]:
    """A picture."""
    upload = upload_of(png.picture("a cat", 64, 64), "cat.png", "image/png")
    yield upload
    upload.close()


async def told(cloud: RunningCloud, call: Call) -> list[Event]:
    """The emulated API's answer."""
    return await answer(make(cloud.root, ALL), call)


def finishes(events: list[Event]) -> list[int]:
    """The indexes that ended."""
    return [event.index for event in events if isinstance(event, Finish)]


async def test_chats_and_completions_of_several_choices(cloud: RunningCloud) -> None:
    """All of them in one request, each whole, and what they cost."""
    events = await told(cloud, chat("count to 3", n=2))
    for index in (0, 1):
        said = [event.text for event in events if isinstance(event, Text) and event.index == index]
        assert "".join(said) == "1 2 3"
    assert (finishes(events), isinstance(events[-1], Usage)) == ([0, 1], True)

    sampling = Sampling(max_tokens=99)
    completed = await told(cloud, ask_for(Operation.COMPLETE, "count to 2", "count to 1", sampling=sampling))
    texts = ["".join(e.text for e in completed if isinstance(e, Text) and e.index == i) for i in (0, 1)]
    assert [text.strip() for text in texts] == ["1 2", "1"]
    assert len(cloud.account.calls.calls) == 2


async def test_embeddings_have_length_one(cloud: RunningCloud) -> None:
    """One of each text, in their order, and of equal texts equal ones."""
    events = await told(cloud, ask_for(Operation.EMBED, "a cat", "a dog", "a cat"))
    vectors = [event for event in events if isinstance(event, Embedding)]
    floats = [struct.unpack(f"<{len(one.values) // 4}f", one.values) for one in vectors]

    assert [one.index for one in vectors] == finishes(events) == [0, 1, 2]
    assert all(math.isclose(math.hypot(*one), 1, abs_tol=1e-4) for one in floats)
    assert floats[0] == floats[2] != floats[1]


async def test_a_ranking_is_put_back_in_order(cloud: RunningCloud) -> None:
    """A score for each document, as they were sent."""
    events = await told(cloud, ask_for(Operation.RERANK, "a dog", "a cat sat", query="a cat sat"))
    scores = [event.score for event in events if isinstance(event, Relevance)]

    assert scores[1] > scores[0]
    assert finishes(events) == [0, 1]


@pytest.mark.parametrize("translates", [False, True])
async def test_a_recording_is_sent_as_a_form(
    cloud: RunningCloud, recording: Upload, translates: bool
) -> None:
    """And comes back with its language, times and length; names that would break the form do not."""
    ask = Transcription(words=not translates, translates=translates)
    events = await told(cloud, ask_for(Operation.TRANSCRIBE, ask=ask, uploads=(recording,)))
    heard, *segments = [event for event in events if isinstance(event, Heard | Segment)]

    assert isinstance(heard, Heard)
    assert heard.duration_s == pytest.approx(1.0, abs=0.1)
    assert "good morning" in "".join(s.text for s in segments if isinstance(s, Segment))
    assert isinstance(events[-1], Usage)
    assert events[-1].sound_s == pytest.approx(1.0, abs=0.1)
    assert cloud.account.calls.calls[0].path.endswith("translations" if translates else "transcriptions")


async def test_speech_is_passed_on_as_it_comes(cloud: RunningCloud) -> None:
    """In the format that was asked for, to the last byte."""
    call = ask_for(Operation.SPEAK, "good morning", ask=Speech(format="wav"), stream=True)
    events = await told(cloud, call)
    content = b"".join(event.content for event in events if isinstance(event, Sound))

    assert content.startswith(b"RIFF")
    assert wav.read(content) is not None
    assert events[-1] == Finish("stop")


async def test_pictures_are_drawn_and_changed(cloud: RunningCloud, image: Upload) -> None:
    """Several of a text in one request; of a picture by a form."""
    drawn = await told(cloud, ask_for(Operation.IMAGE, "a cat", n=2, ask=Painting(width=64, height=64)))
    files = [event.content for event in drawn if isinstance(event, Picture)]
    changed = await told(cloud, ask_for(Operation.IMAGE, "a hat", ask=Painting(), uploads=(image,)))
    masked = ask_for(Operation.IMAGE, "a hat", ask=Painting(masked=True), uploads=(image, image))

    assert [file[:4] for file in files] == [b"\x89PNG"] * 2
    assert finishes(drawn) == [0, 1]
    assert any(isinstance(event, Picture) for event in changed)
    assert any(isinstance(event, Picture) for event in await told(cloud, masked))
    assert [call.path for call in cloud.account.calls.calls[1:]] == ["/v1/images/edits"] * 2


async def test_moderations_judge_texts_and_images(cloud: RunningCloud, image: Upload) -> None:
    """Texts together, each image by itself."""
    call = ask_for(Operation.MODERATE, "hello", "I will kill you", ask=Moderation(), uploads=(image,))
    events = await told(cloud, call)
    verdicts = {event.index: event for event in events if isinstance(event, Verdict)}

    assert verdicts.keys() == {0, 1, 2}
    assert finishes(events) == [0, 1, 2]
    assert not verdicts[0].flagged
    assert verdicts[1].flagged
    assert len(cloud.account.calls.calls) == 2


async def test_without_a_token_none_is_sent() -> None:
    """A server of one's own needs none."""
    async with server({"data": [{"embedding": [3.0, 4.0], "index": 0}]}) as bare:
        await answer(make(bare.root, ALL, token=None), ask_for(Operation.EMBED, "x"))
        await answer(make(bare.root, ALL), ask_for(Operation.EMBED, "x"))

    assert "authorization" not in bare.heard[0].headers
    assert bare.heard[1].headers["authorization"] == f"Bearer {TOKEN}"


async def test_a_token_that_no_header_may_hold_is_not_sent() -> None:
    """It is named as a mistake instead."""
    with pytest.raises(BackendMisconfigured, match="characters"):
        await answer(make("http://127.0.0.1:9", token="sk\nx: y"), chat())


async def test_vectors_of_any_length_come_as_floats_too() -> None:
    """Servers that know no base64 send numbers; a vector's length is made 1 here."""
    async with server(
        {"data": [{"embedding": [3.0, 4.0], "index": 0}], "usage": {"prompt_tokens": 2}}
    ) as one:
        events = await answer(make(one.root, ALL), ask_for(Operation.EMBED, "x"))

    first, last = events[0], events[-1]
    assert isinstance(first, Embedding)
    assert struct.unpack("<2f", first.values) == pytest.approx((0.6, 0.8))
    assert last == Usage(2, 0)


async def test_words_are_put_into_their_segments() -> None:
    """By when they begin; a language that is told by name is told by code."""
    document = {
        "text": "a b c",
        "language": "German",
        "duration": 3.0,
        "segments": [{"text": " a b", "start": 0.0, "end": 2.0}, {"text": " c", "start": 2.0, "end": 3.0}],
        "words": [{"word": w, "start": float(i), "end": i + 0.5} for i, w in enumerate("abc")],
    }
    upload = upload_of(b"x", "x.wav")
    call = ask_for(Operation.TRANSCRIBE, ask=Transcription(words=True), uploads=(upload,))
    async with server(document) as one:
        events = await answer(make(one.root, ALL), call)
    upload.close()
    first, second = [event for event in events if isinstance(event, Segment)]

    assert events[0] == Heard("de", 3.0)
    assert first.words == (Word(" a", 0.0, 0.5), Word(" b", 1.0, 1.5))
    assert second.words == (Word(" c", 2.0, 2.5),)
    assert b'name="timestamp_granularities[]"' in one.heard[0].body


ODD: dict[str, tuple[Operation, Reply, str]] = {
    "a vector is missing": (Operation.EMBED, Reply({"data": []}), "vectors of 0 texts"),
    "a vector without direction": (
        Operation.EMBED,
        Reply({"data": [{"embedding": [0.0], "index": 0}]}),
        "no direction",
    ),
    "broken base64": (Operation.EMBED, Reply({"data": [{"embedding": "?", "index": 0}]}), "none"),
    "a score is missing": (Operation.RERANK, Reply({"results": []}), "ranked 0"),
    "an error in a 200": (Operation.EMBED, Reply({"error": {"message": "out of memory"}}), "failed"),
    "a page": (Operation.EMBED, Reply(b"<h1>hello</h1>", "text/html"), "no answer"),
    "an address for a picture": (Operation.IMAGE, Reply({"data": [{"url": "http://x"}]}), "where a picture"),
    "too few pictures": (Operation.IMAGE, Reply({"data": []}), "drew 0"),
    "no verdict": (Operation.MODERATE, Reply({"results": []}), "judged 0"),
    "an error for a sound": (Operation.SPEAK, Reply({"error": {"message": "no"}}), "failed"),
    "no sound": (Operation.SPEAK, Reply(b"", "audio/mpeg"), "no sound"),
    "another sound": (Operation.SPEAK, Reply(b"RIFF", "audio/wav"), "response_format wav"),
}


@pytest.mark.parametrize("name", ODD)
async def test_an_odd_reply_lets_the_next_step_try(name: str) -> None:
    """Nothing of it passes for an answer."""
    operation, reply, words = ODD[name]
    async with server(reply) as odd:
        with pytest.raises(BackendError, match=words):
            await answer(make(odd.root, ALL), ask_for(operation, "x", query="q"))


async def test_a_sound_without_a_certain_end_is_broken() -> None:
    """A connection that just ends may have been cut: nobody can say that it was all."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nConnection: close\r\n\r\nID3 and more")
        writer.close()

    odd = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with odd:
        root = f"http://127.0.0.1:{odd.sockets[0].getsockname()[1]}"
        with pytest.raises(StreamBroken, match="whole"):
            await answer(make(root, ALL), ask_for(Operation.SPEAK, "x"))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (ask_for(Operation.IMAGE, "x", ask=Painting(steps=5)), "steps"),
        (ask_for(Operation.IMAGE, "x", sampling=Sampling(seed=5)), "seed"),
    ],
)
async def test_what_openai_cannot_draw_is_named(call: Call, name: str) -> None:
    """Without asking it."""
    with pytest.raises(Inexpressible, match=name):
        await answer(make("https://api.openai.com", ALL), call)


async def test_a_call_that_comes_round_is_stopped() -> None:
    """A router that finds its own mark in the call leaves it to another step; others add theirs."""
    mine = make("http://127.0.0.1:9")
    with pytest.raises(Inexpressible, match="round"):
        await answer(mine, chat(headers={VIA: f"feed, {mine._passed(chat())}"}))
    with pytest.raises(Inexpressible, match="round"):
        await answer(mine, chat(headers={VIA: "a,b,c,d"}))
    async with server(Reply({}, status=500)) as other:
        with pytest.raises(RouterError):
            await answer(make(other.root), chat(headers={VIA: "feed"}))
    first, second = other.heard[0].headers[VIA].split(",")
    assert first == "feed"
    assert second


async def test_a_server_that_refuses_the_beginning_of_an_answer_is_asked_anew() -> None:
    """The step may start from nothing instead of failing."""
    messages = (Message(role="user", content="hi"),)
    call = chat(*messages, written="1 2", written_count=2)
    async with server(Reply({"error": {"message": "roles must alternate"}}, status=400)) as strict:
        with pytest.raises(RouterError) as caught:
            await answer(make(strict.root, ALL), call)

    assert type(caught.value).__name__ == "PrefillRefused"


def test_a_backend_on_this_machine_is_local_because_it_is_said() -> None:
    """Never because of its address."""
    assert make("http://127.0.0.1:9", on_this_machine=True).local
    assert not make("http://127.0.0.1:9").local


def test_only_what_is_declared_is_done() -> None:
    """A model does what router.yaml says, as far as there is a form for it."""
    odd: Any = CloudModel(does=("chat", "translate"))
    assert make("http://127.0.0.1:9", odd).operations(MODEL) == {Operation.CHAT}
