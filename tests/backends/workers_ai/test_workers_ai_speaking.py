"""Speech on Workers AI: sounds that are passed on as they come, and whole ones in JSON."""

from __future__ import annotations

import base64
from contextlib import aclosing
from typing import Any

import pytest
from media_calls import answered, recording, speak
from scripted_cloud import CLOSE, END, PAUSE, RESET, Reply, a_step, chunk, cloud, file, head, plain

from hybrid_router.core.asks import SoundFormat
from hybrid_router.core.errors import (
    BackendBusy,
    BackendError,
    BackendUnavailable,
    NotAble,
    StreamBroken,
)
from hybrid_router.core.event import Event, Finish, Sound

AURA = "@cf/deepgram/aura-1"
AURA_2 = "@cf/deepgram/aura-2-en"
SPANISH = "@cf/deepgram/aura-2-es"
MELO = "@cf/myshell-ai/melotts"
MP3 = b"ID3\x04" + bytes(60)
HEADS: dict[SoundFormat, bytes] = {
    "mp3": MP3,
    "opus": b"OggS" + bytes(60),
    "aac": b"\xff\xf1\x50" + bytes(60),
    "flac": b"fLaC" + bytes(60),
    "wav": recording(0.01),
    "pcm": bytes(64),
}


def sound(told: list[Event]) -> bytes:
    """All of an answer's sound."""
    return b"".join(event.content for event in told if isinstance(event, Sound))


async def test_sound_is_passed_on_while_it_comes() -> None:
    """The first bytes are told before the last are made, and the finish comes with the body's own end."""
    reply: Reply = [head("audio/mpeg"), chunk(MP3), PAUSE, chunk(b"more"), END]
    async with cloud(reply) as (backend, upstream), aclosing(backend.run(speak(), a_step(AURA))) as running:
        first = await anext(running)
        upstream.go_on.set()
        rest = [event async for batch in running for event in batch]

    assert first == [Sound(MP3)]
    assert rest == [Sound(b"more"), Finish("stop")]


async def test_a_format_is_told_by_the_first_bytes_however_they_are_sliced() -> None:
    """A byte at a time is checked and passed on like the whole."""
    reply: Reply = [head("audio/mpeg"), *(chunk(MP3[i : i + 1]) for i in range(len(MP3))), END]
    async with cloud(reply) as (backend, _):
        told = await answered(backend, speak(), AURA)

    assert sound(told) == MP3
    assert told[-1] == Finish("stop")


@pytest.mark.parametrize(
    ("wanted", "fields"),
    [
        ("mp3", {"encoding": "mp3"}),
        ("opus", {"encoding": "opus", "container": "ogg"}),
        ("aac", {"encoding": "aac"}),
        ("flac", {"encoding": "flac"}),
        ("wav", {"encoding": "linear16", "container": "wav", "sample_rate": 24000}),
        ("pcm", {"encoding": "linear16", "container": "none", "sample_rate": 24000}),
    ],
)
async def test_every_format_is_asked_for_in_the_models_words(
    wanted: SoundFormat, fields: dict[str, Any]
) -> None:
    """Each of OpenAI's formats has an encoding, a container and a sample rate there."""
    async with cloud(file(HEADS[wanted], "audio/x-any")) as (backend, upstream):
        told = await answered(backend, speak(format=wanted), AURA)

    assert upstream.requests[0][2] == {"text": "Good morning."} | fields
    assert sound(told) == HEADS[wanted]


@pytest.mark.parametrize(
    ("model", "voice", "speaker"),
    [
        (AURA, "", None),
        (AURA, "Luna", "luna"),
        (AURA, "alloy", None),
        (AURA, "mum", "hera"),
        (AURA_2, "mum", "hera"),
        (SPANISH, "mum", None),
        (SPANISH, "diana", "diana"),
        (AURA, "onyx", "zeus"),
    ],
)
async def test_voices_lead_to_speakers(model: str, voice: str, speaker: str | None) -> None:
    """The configuration's word first, then the model's own; OpenAI's are the default unless configured, and
    so is a word that leads to another model's speaker."""
    async with cloud(file(MP3, "audio/mpeg"), speakers={"mum": "hera", "onyx": "zeus"}) as (
        backend,
        upstream,
    ):
        await answered(backend, speak(voice=voice), model)

    assert upstream.requests[0][2].get("speaker") == speaker


async def test_a_voice_that_nobody_has_is_named_with_those_there_are() -> None:
    """A misspelt speaker is no silent default."""
    async with cloud(file(MP3, "audio/mpeg")) as (backend, upstream):
        with pytest.raises(NotAble, match="no speaker 'lunna'; it has angus, arcas") as refused:
            await answered(backend, speak(voice="lunna"), AURA)

    assert refused.value.param == "voice"
    assert upstream.requests == []


async def test_a_whole_sound_in_json() -> None:
    """MeloTTS answers with base64 in an envelope, and its voices are languages."""
    reply = plain({"result": {"audio": base64.b64encode(MP3).decode()}, "success": True})
    async with cloud(reply, speakers={"marie": "fr"}) as (backend, upstream):
        told = await answered(backend, speak("Bonjour.", voice="marie"), MELO)

    assert upstream.requests[0][2] == {"prompt": "Bonjour.", "lang": "fr"}
    assert told == [Sound(MP3), Finish("stop")]


async def test_melotts_that_sends_bytes_is_understood() -> None:
    """Its schema allows the file itself as well."""
    async with cloud(file(MP3, "audio/mpeg")) as (backend, _):
        told = await answered(backend, speak(), MELO)

    assert sound(told) == MP3


@pytest.mark.parametrize(
    ("model", "wish", "param"),
    [
        (AURA, {"speed": 1.5}, "speed"),
        (MELO, {"speed": 0.5}, "speed"),
        (MELO, {"format": "wav"}, "response_format"),
        (MELO, {"voice": "hera"}, "voice"),
    ],
)
async def test_what_a_voice_cannot_do_is_named(model: str, wish: dict[str, Any], param: str) -> None:
    """Another pace or format than the model has lets a step try that has it."""
    async with cloud(file(MP3, "audio/mpeg")) as (backend, upstream):
        with pytest.raises(NotAble) as refused:
            await answered(backend, speak(**wish), model)

    assert refused.value.param == param
    assert upstream.requests == []


BUSY = {"success": False, "errors": [{"code": 3040, "message": "busy"}], "result": {}}


@pytest.mark.parametrize("model", [AURA, MELO])
@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (plain(BUSY), BackendBusy, "no capacity"),
        (plain({"result": {}, "success": True}), BackendError, r"failed|without a sound"),
        (file(b"<html>", "text/html"), BackendError, "no answer"),
        (file(b"", "audio/mpeg"), BackendError, "without a sound"),
        (file(b"<html>an error page</html>", "audio/mpeg"), BackendError, "another kind of sound than mp3"),
        (file(HEADS["wav"], "audio/mpeg"), BackendError, "another kind of sound than mp3"),
        (file(b"ID3", "audio/mpeg", 99), BackendUnavailable, "broke the connection"),
        ([head("audio/mpeg"), RESET], BackendUnavailable, "broke the connection"),
        (plain(BUSY, status="429 Too Many Requests"), BackendBusy, "no capacity"),
    ],
)
async def test_what_is_no_sound_lets_the_next_step_try(
    model: str, reply: Reply, kind: type[Exception], message: str
) -> None:
    """A JSON error in a 200, another kind of file, and a cut before the first bytes are seen in time."""
    async with cloud(reply) as (backend, _):
        with pytest.raises(kind, match=message):
            await answered(backend, speak(), model)


@pytest.mark.parametrize("end", [RESET, CLOSE])
async def test_a_sound_that_is_cut_is_no_whole_one(end: str) -> None:
    """After the first bytes a broken connection breaks the stream, and there is no finish."""
    reply: Reply = [head("audio/mpeg"), chunk(MP3), PAUSE, end]
    told: list[Event] = []
    async with cloud(reply) as (backend, upstream), aclosing(backend.run(speak(), a_step(AURA))) as running:
        told += await anext(running)
        upstream.go_on.set()
        with pytest.raises(StreamBroken):
            await anext(running)

    assert told == [Sound(MP3)]


async def test_a_sound_without_a_length_of_its_own_is_never_whole() -> None:
    """Where the connection's end is the only sign, nobody knows whether it was cut."""
    reply: Reply = [b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n" + MP3, CLOSE]
    async with cloud(reply) as (backend, _):
        with pytest.raises(StreamBroken, match="without a sign that it was whole"):
            await answered(backend, speak(), AURA)


@pytest.mark.parametrize("audio", ["???", "", base64.b64encode(b"OggS" + bytes(20)).decode()])
async def test_broken_base64_is_no_sound(audio: str) -> None:
    """What does not decode, is empty or is something else lets the next step try."""
    async with cloud(plain({"result": {"audio": audio}})) as (backend, _):
        with pytest.raises(BackendError, match=r"without a sound|another kind"):
            await answered(backend, speak(), MELO)
