"""Recordings on Workers AI: what is sent to each family, and what its replies become."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from media_calls import NOVA, TINY, TURBO, WHISPER, answered, hear, hole, recording
from scripted_cloud import ACCOUNT, CLOSE, Reply, cloud, file, plain

from hybrid_router.backends.errand import Unreadable
from hybrid_router.backends.workers_ai.tasks import bodies, transcript, transcription
from hybrid_router.backends.workers_ai.tasks import recording as recording_file
from hybrid_router.core.errors import (
    BackendBusy,
    BackendError,
    BackendUnavailable,
    CallRefused,
    NotAble,
)
from hybrid_router.core.event import Event, Finish, Heard, Segment, Usage
from hybrid_router.core.upload import upload_of

pytestmark = pytest.mark.usefixtures("own_uploads")

VTT = "WEBVTT\n\n00.000 --> 01.200\nHello there,\n\n00:00:01.200 --> 00:00:02.500\nold friend.\n\n"
WORDS = [
    {"word": "Hello", "start": 0.0, "end": 0.5},
    {"word": "there,", "start": 0.5, "end": 1.2},
    {"word": "old", "start": 1.2, "end": 1.9},
    {"word": "friend.", "start": 1.9, "end": 2.5},
]
OF_WHISPER = {
    "text": "Hello there, old friend.",
    "word_count": 4,
    "words": WORDS,
    "vtt": VTT.replace("00.000 --> 01.200", "00:00.000 --> 00:01.200"),
}
OF_TURBO = {
    "text": "Hola, amigo.",
    "word_count": 2,
    "transcription_info": {"language": "es", "language_probability": 0.9, "duration": 3.5},
    "segments": [
        {
            "start": 0.0, "end": 3.25, "text": "Hola, amigo.", "temperature": 0.2, "avg_logprob": -0.3,
            "compression_ratio": 0.8, "no_speech_prob": 0.01, "words": WORDS[:2],
        }
    ],
}  # fmt: skip
OF_NOVA = {
    "results": {
        "channels": [
            {
                "detected_language": "en-US",
                "alternatives": [
                    {
                        "transcript": "Hello there. Old friend?",
                        "confidence": 0.99,
                        "words": [
                            {"word": word, "start": start, "end": start + 0.5, "confidence": 0.8}
                            for word, start in (("hello", 0), ("there", 0.5), ("old", 1.2), ("friend", 2))
                        ],
                    }
                ],
            }
        ]
    }
}  # fmt: skip


def told_in_band(code: int, message: str) -> dict[str, Any]:
    """An error as an envelope has it."""
    return {"success": False, "errors": [{"code": code, "message": message}], "result": {}}


def wrapped(result: Any) -> Reply:
    """A result in its envelope."""
    return plain({"result": result, "success": True, "errors": [], "messages": []})


def segments(told: list[Event]) -> list[Segment]:
    """The segments of an answer."""
    return [event for event in told if isinstance(event, Segment)]


async def test_whisper_gets_the_bytes_and_its_cues_become_segments() -> None:
    """The body is the recording itself, with its length; each cue is a segment with its own words, and the
    segments' text is the transcript, to the last letter."""
    content = recording(2.0)
    async with cloud(wrapped(OF_WHISPER)) as (backend, upstream):
        told = await answered(backend, hear(content, words=True), WHISPER)

    line, headers, body = upstream.requests[0]
    assert line == f"POST /client/v4/accounts/{ACCOUNT}/ai/run/@cf/openai/whisper HTTP/1.1"
    assert (headers["content-type"], headers["content-length"]) == (
        "application/octet-stream",
        str(len(content)),
    )
    assert body == content
    assert "transfer-encoding" not in headers
    first, second = segments(told)
    assert first.text + second.text == "Hello there, old friend."
    assert (first.start_s, first.end_s, second.start_s, second.end_s) == (0.0, 1.2, 1.2, 2.5)
    assert [word.text for word in second.words] == [" old", " friend."]
    assert told[0] == Heard("", 2.5)
    assert told[-2:] == [Finish("stop"), Usage(0, 0, sound_s=2.5)]


async def test_words_come_only_if_they_are_wanted() -> None:
    """A client that asks for segments alone gets no words; the English model's language is known."""
    async with cloud(wrapped(OF_WHISPER)) as (backend, _):
        told = await answered(backend, hear(recording(9.0)), TINY)

    assert told[0] == Heard("en", 9.0)
    assert [segment.words for segment in segments(told)] == [(), ()]


async def test_missing_times_of_words_let_the_next_step_try() -> None:
    """An answer without the times that were asked for is none."""
    async with cloud(wrapped({"text": "Hello."})) as (backend, _):
        with pytest.raises(BackendError, match="without the times of words"):
            await answered(backend, hear(words=True), WHISPER)


async def test_text_without_cues_is_one_segment() -> None:
    """Nothing that was heard is lost where no subtitles come."""
    async with cloud(wrapped({"text": " Just this. "})) as (backend, _):
        told = await answered(backend, hear(), WHISPER)

    assert [segment.text.strip() for segment in segments(told)] == ["Just this."]


async def test_silence_has_no_segments() -> None:
    """A recording in which nobody speaks is answered, by nothing but its length."""
    async with cloud(wrapped({"text": "", "word_count": 0, "words": [], "vtt": "WEBVTT\n\n"})) as (
        backend,
        _,
    ):
        told = await answered(backend, hear(recording(3.0), words=True), WHISPER)

    assert told == [Heard("", 3.0), Finish("stop"), Usage(0, 0, sound_s=3.0)]


async def test_turbo_gets_json_and_tells_language_and_segments() -> None:
    """The recording travels as base64 with what the client said of it; figures and words are passed on."""
    content = recording(1.0) + b"!"
    async with cloud(wrapped(OF_TURBO)) as (backend, upstream):
        call = hear(content, prompt="amigos", language="es", voice_only=True, words=True)
        told = await answered(backend, call, TURBO)

    body = upstream.requests[0][2]
    assert base64.b64decode(body.pop("audio")) == content
    assert body == {"task": "transcribe", "language": "es", "vad_filter": True, "initial_prompt": "amigos"}
    assert told[0] == Heard("es", 3.5, 0.9)
    (segment,) = segments(told)
    assert (segment.text, segment.temperature, segment.avg_logprob, segment.no_speech_prob) == (
        " Hola, amigo.", 0.2, -0.3, 0.01,
    )  # fmt: skip
    assert len(segment.words) == 2
    assert told[-1] == Usage(0, 0, sound_s=3.5)


async def test_turbo_translates_by_itself() -> None:
    """A translation is one request with another task; the language is the one that was spoken."""
    async with cloud(wrapped(OF_TURBO)) as (backend, upstream):
        told = await answered(backend, hear(translates=True), TURBO)

    assert [body["task"] for _, _, body in upstream.requests] == ["translate"]
    assert told[0] == Heard("es", 3.5, 0.9)


async def test_nova_gets_the_sounds_own_type_and_options_in_the_query() -> None:
    """What the file is, is told by its bytes, whatever the client says; sentences become segments, with the
    transcript's capitals."""
    async with cloud(wrapped(OF_NOVA)) as (backend, upstream):
        told = await answered(backend, hear(media_type="video/mp4", words=True), NOVA)

    line, headers, _ = upstream.requests[0]
    assert "/run/@cf/deepgram/nova-3?punctuate=true&detect_language=true " in line
    assert headers["content-type"] == "audio/wav"
    assert told[0] == Heard("en", 2.5)
    assert [segment.text for segment in segments(told)] == [" Hello there.", " Old friend?"]
    assert segments(told)[0].words[0].probability == 0.8


async def test_nova_is_told_the_language_that_the_client_knows() -> None:
    """It goes into the query instead of the wish to find it out."""
    async with cloud(wrapped(OF_NOVA)) as (backend, upstream):
        await answered(backend, hear(language="pt"), NOVA)

    assert "?punctuate=true&language=pt " in upstream.requests[0][0]


@pytest.mark.parametrize(
    ("model", "wish", "param"),
    [
        (WHISPER, {"language": "de"}, "language"),
        (WHISPER, {"prompt": "Ada"}, "prompt"),
        (WHISPER, {"voice_only": True}, "vad_filter"),
        (WHISPER, {"temperature": 0.4}, "temperature"),
        (TURBO, {"temperature": 0.4}, "temperature"),
        (TINY, {"language": "de"}, "language"),
        (NOVA, {"prompt": "Ada"}, "prompt"),
    ],
)
async def test_what_a_model_cannot_be_told_is_named(model: str, wish: dict[str, Any], param: str) -> None:
    """Nothing that a client asks for is dropped in silence, and nothing is sent for it."""
    async with cloud(wrapped(OF_WHISPER)) as (backend, upstream):
        with pytest.raises(NotAble, match=f"`{param}`") as refused:
            await answered(backend, hear(**wish), model)

    assert refused.value.param == param
    assert upstream.requests == []


async def test_what_a_model_does_anyway_is_no_obstacle() -> None:
    """Temperature 0, and English for the English model, ask for nothing special."""
    async with cloud(wrapped(OF_WHISPER)) as (backend, upstream):
        await answered(backend, hear(temperature=0.0, language="en"), TINY)

    assert len(upstream.requests) == 1


async def test_too_large_a_recording_is_refused_before_it_is_read() -> None:
    """The limit and the size are named, and turbo's is smaller, since base64 is longer."""
    most = transcription.MOST_BYTES
    async with cloud(wrapped(OF_WHISPER)) as (backend, upstream):
        with pytest.raises(NotAble, match=f"up to {most} bytes, this one has {most + 1}") as refused:
            await answered(backend, hear(hole(most + 1)), WHISPER)
        with pytest.raises(NotAble, match=f"up to {most * 3 // 4} bytes"):
            await answered(backend, hear(hole(most * 3 // 4 + 3)), TURBO)
        with pytest.raises(CallRefused, match="file: it is empty"):
            await answered(backend, hear(b""), WHISPER)

    assert refused.value.param == "file"
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (plain(told_in_band(3040, "busy")), BackendBusy, "no capacity"),
        (plain(told_in_band(5006, "bad audio")), CallRefused, "bad audio"),
        (plain({"result": {"vtt": "WEBVTT"}, "success": True}), BackendError, "without a transcript"),
        (plain({"result": {"text": 5}}), BackendError, "without a transcript"),
        (plain([1, 2]), BackendError, "without a transcript"),
        (plain(b"{"), BackendError, "without a transcript"),
        (plain(b'{"result":{"text":"\xff"}}'), BackendError, "without a transcript"),
        (file(b"<html>", "text/html"), BackendError, "no answer"),
        (file(b"RIFF", "audio/wav"), BackendError, "no answer"),
        (plain({"errors": [{"code": 3046, "message": "slow"}]}, status="408 Slow"), BackendError, "too long"),
        ([b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{", CLOSE],
         BackendUnavailable, "broke the connection"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("model", [WHISPER, TURBO, NOVA])
async def test_a_reply_that_is_no_transcript_lets_the_next_step_try(
    model: str, reply: Reply, kind: type[Exception], message: str
) -> None:
    """Errors inside a 200, other types, and cuts come out by name, before any event."""
    async with cloud(reply) as (backend, _):
        with pytest.raises(kind, match=message):
            await answered(backend, hear(), model)


async def test_files_are_sent_in_pieces_and_never_copied_whole() -> None:
    """A body of files comes in pieces of a bounded size that join to the whole, as bytes and as base64."""
    content = bytes(range(256)) * 4096  # a MiB, and not a multiple of the piece
    sent = bodies.document_with("m", {"task": "transcribe"}, {"audio": upload_of(content)})
    assert callable(sent.body)
    pieces = [piece async for piece in sent.body()]

    assert max(map(len, pieces)) <= bodies.PIECE_BYTES * 4 // 3
    document = b"".join(pieces)
    assert len(document) == int(sent.headers["Content-Length"])
    assert base64.b64decode(json.loads(document)["audio"]) == content


@pytest.mark.parametrize("content", [b"", b"\x07", bytes(range(256)) * 1024], ids=["none", "one", "many"])
async def test_lists_of_numbers_are_made_while_they_are_sent(content: bytes) -> None:
    """They are of a known length, and never there whole: a picture would hold all other calls up."""
    sent = bodies.document_with("m", {}, {"image": bodies.Numbers(content)})
    assert callable(sent.body)
    pieces = [piece async for piece in sent.body()]

    assert max(map(len, pieces)) <= bodies.PIECE_BYTES * 4 // 3
    document = b"".join(pieces)
    assert len(document) == int(sent.headers["Content-Length"])
    assert json.loads(document) == {"image": list(content)}


async def test_a_client_that_goes_closes_the_upload() -> None:
    """Who stops listening while the recording is sent leaves no connection behind."""
    async with cloud(["hold"]) as (backend, upstream):
        task = asyncio.create_task(answered(backend, hear(), WHISPER))
        await upstream.holding.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(upstream.gone.wait(), 5)


def test_cues_that_are_not_in_the_text_lose_nothing() -> None:
    """Where subtitles and text differ, every letter of the text still comes, and no cue is without words."""
    vtt = "WEBVTT\n\n00:00.000 --> 00:01.000\nHi there\n\n00:01.000 --> 00:02.000\nfriend"
    heard = transcript.whisper(json.dumps({"text": "Hello there, friend.", "vtt": vtt}).encode())

    assert heard.segments[-1].text.endswith("friend.")
    assert "Hello there, friend." in heard.text
    assert len(heard.segments) == 2


def test_a_pause_divides_what_has_no_full_stops() -> None:
    """Deepgram without punctuation: a long silence ends a segment."""
    words = [{"word": "one", "start": 0, "end": 1}, {"word": "two", "start": 5, "end": 6}]
    told = {"results": {"channels": [{"alternatives": [{"transcript": "one two", "words": words}]}]}}
    heard = transcript.nova(json.dumps(told).encode())

    assert [(segment.text, segment.start_s) for segment in heard.segments] == [(" one", 0), (" two", 5)]


def test_nova_without_a_channel_is_no_transcript() -> None:
    """An empty list of channels says nothing, and that is not silence."""
    with pytest.raises(Unreadable, match="without a transcript"):
        transcript.nova(b'{"results":{"channels":[]}}')


@pytest.mark.parametrize(
    ("content", "told", "found"),
    [
        (b"ID3\x04", "audio/wav", "audio/mpeg"),
        (b"\xff\xfb\x90\x00", "", "audio/mpeg"),
        (b"\xff\xf1\x50\x80", "", "audio/aac"),
        (b"fLaC", "", "audio/flac"),
        (b"\x1a\x45\xdf\xa3", "", "audio/webm"),
        (b"\0\0\0\x20ftypM4A ", "", "audio/mp4"),
        (b"????", "audio/AMR; rate=8000", "audio/amr"),
        (b"????", "text/html", "application/octet-stream"),
        (b"????", "audio/x\r\nHost: a", "application/octet-stream"),
        (b"", "audio/wav", "application/octet-stream"),
    ],
)
def test_a_recording_is_what_its_bytes_say(content: bytes, told: str, found: str) -> None:
    """A client's word counts only where the bytes say nothing, and only if it names a sound."""
    assert recording_file.media_type(upload_of(content, "talk", told)) == found
