"""Sound, speech and pictures: native inputs to calls, events to native results."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from open_uploads import open_uploads

from hybrid_router.api import transcript
from hybrid_router.api.openai.sender import Sender
from hybrid_router.api.workers_ai.form import Given
from hybrid_router.api.workers_ai.forms import fields
from hybrid_router.api.workers_ai.forms.table import FORMS
from hybrid_router.catalogue.families import Family
from hybrid_router.core.asks import Painting, Speech, Transcription
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import CallRefused, StreamBroken
from hybrid_router.core.event import Batch, Finish, Heard, Label, Picture, Segment, Sound, Usage, Word
from hybrid_router.core.upload import Upload, upload_of

pytestmark = pytest.mark.usefixtures("own_uploads")

SENDER: Sender = {"call_id": "run-1", "principal": "alice", "headers": {}}
FILE = b"RIFF and so on"
BASE64 = base64.b64encode(FILE).decode()
PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)
SAID = (
    Segment(" Good day.", 0.0, 1.5, words=(Word(" Good", 0.0, 0.5), Word(" day.", 0.5, 1.5, 0.5))),
    Segment(" A --> B", 61.5, 3662.25),
)
HEARD: Batch = [Heard("de", 12.5, 0.75), *SAID, Finish("stop"), Usage(0, 0, sound_s=12.5)]


@contextmanager
def called(known: Family, **given_: Any) -> Iterator[Call]:
    """The call that an input makes; its files are closed at the end."""
    call = FORMS[known].call(Given(model="m", **given_), **SENDER)
    try:
        yield call
    finally:
        for upload in call.uploads:
            upload.close()


def content(upload: Upload) -> bytes:
    """The bytes of a file."""
    with upload.mapped() as pages:
        return pages[:]


def result(known: Family, call: Call, events: Batch, **given_: Any) -> Any:
    """What is inside the envelope."""
    reply = FORMS[known].reply(Given(model="m", **given_), call, events)
    document = json.loads(reply.content)
    assert (reply.media_type, document["success"]) == ("application/json", True)
    return document["result"]


def refused(known: Family, **given_: Any) -> CallRefused:
    """Why an input is no call."""
    with pytest.raises(CallRefused) as caught:
        FORMS[known].call(Given(model="m", **given_), **SENDER)
    return caught.value


def test_a_recording_is_bytes_integers_or_base64() -> None:
    """Each family takes its own spelling; what arrives is the same file."""
    body = upload_of(FILE, media_type="audio/wav")
    with (
        called(Family.SOUND_BYTES, content=body) as whole,
        called(Family.SOUND_BYTES, body={"audio": list(FILE)}) as numbers,
        called(Family.SOUND_BASE64, body={"audio": BASE64}) as text,
        called(Family.SOUND_BASE64, body={"audio": f"data:audio/mp3;base64,{BASE64}"}) as url,
    ):
        for call in (whole, numbers, text, url):
            assert (call.operation, content(call.uploads[0])) == (Operation.TRANSCRIBE, FILE)
            assert isinstance(call.ask, Transcription)
            assert call.ask.words
        assert url.uploads[0].media_type == "audio/mp3"


def test_options_of_a_recording_are_asked_or_passed_on() -> None:
    """Language, task, filter and the words before it are the call's; others are kept by their names."""
    asked = {
        "audio": BASE64,
        "task": "translate",
        "language": "es",
        "vad_filter": True,
        "initial_prompt": "Señor",
        "beam_size": 3,
    }
    with called(Family.SOUND_BASE64, body=asked) as call:
        assert call.ask == Transcription(language="es", translates=True, words=True, voice_only=True)
        assert (call.prompts, call.extra) == (("Señor",), {"beam_size": 3})


@pytest.mark.parametrize(
    ("query", "language", "extra"),
    [
        ({"language": "en-US", "punctuate": "true"}, "en", {"punctuate": "true"}),
        ({"language": "de", "detect_language": "true"}, None, {}),
        ({"language": "multi"}, None, {}),
    ],
)
def test_options_of_nova_are_in_its_address(
    query: dict[str, str], language: str | None, extra: dict[str, str]
) -> None:
    """The body is the recording, so nothing else can be in it."""
    with called(Family.SOUND_NOVA, content=upload_of(FILE), query=query) as call:
        assert call.ask == Transcription(language=language, words=True)
        assert call.extra == extra
    assert refused(Family.SOUND_NOVA, body={"audio": BASE64}).param == "/"


def test_a_transcript_holds_words_and_subtitles() -> None:
    """The words with their times, one cue a segment, and no text that divides times."""
    with called(Family.SOUND_BYTES, body={"audio": [1]}) as call:
        told = result(Family.SOUND_BYTES, call, HEARD)

    assert (told["text"], told["word_count"]) == ("Good day. A --> B", 2)
    assert told["words"] == [
        {"word": "Good", "start": 0.0, "end": 0.5},
        {"word": "day.", "start": 0.5, "end": 1.5},
    ]
    assert told["vtt"] == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nGood day.\n\n00:01:01.500 --> 01:01:02.250\nA -> B\n\n"
    )


def test_turbo_tells_the_language_and_the_segments() -> None:
    """As the smaller ones, and what each segment is."""
    with called(Family.SOUND_BASE64, body={"audio": BASE64}) as call:
        told = result(Family.SOUND_BASE64, call, HEARD)

    about = told["transcription_info"]
    assert (about["language"], about["language_probability"], about["duration"]) == ("de", 0.75, 12.5)
    assert [segment["text"] for segment in told["segments"]] == [" Good day.", " A --> B"]
    assert told["segments"][0]["words"][1] == {"word": " day.", "start": 0.5, "end": 1.5}


def test_nova_answers_in_channels() -> None:
    """One channel, one alternative; as sure as its words are on average."""
    with called(Family.SOUND_NOVA, content=upload_of(FILE)) as call:
        told = result(Family.SOUND_NOVA, call, HEARD)

    (alternative,) = told["results"]["channels"][0]["alternatives"]
    assert (alternative["transcript"], alternative["confidence"]) == ("Good day. A --> B", 0.75)
    assert alternative["words"][0] == {"word": "Good", "start": 0.0, "end": 0.5, "confidence": 1.0}


@pytest.mark.parametrize("known", [Family.SOUND_BYTES, Family.SOUND_BASE64, Family.SOUND_NOVA])
@pytest.mark.parametrize("missing", [Heard, Finish])
def test_a_transcript_that_is_not_whole_is_none(known: Family, missing: type) -> None:
    """Without the word that it ended, or what it heard, nothing is answered."""
    given_: dict[str, Any] = (
        {"content": upload_of(FILE)}
        if known is Family.SOUND_NOVA
        else {"body": {"audio": [1] if known is Family.SOUND_BYTES else BASE64}}
    )
    with called(known, **given_) as call, pytest.raises(StreamBroken):
        FORMS[known].reply(
            Given(model="m"), call, [event for event in HEARD if not isinstance(event, missing)]
        )


@pytest.mark.parametrize(
    ("labels", "complete", "probability"),
    [
        ([Label("complete", 0.9), Label("incomplete", 0.1)], True, 0.9),
        ([Label("Incomplete", 0.75)], False, 0.25),
    ],
)
def test_a_turn_is_one_of_two_classes(labels: Batch, complete: bool, probability: float) -> None:
    """The probability is always that of being complete."""
    with called(Family.TURN, body={"audio": BASE64, "dtype": "float32"}) as call:
        assert (call.operation, call.extra) == (Operation.CLASSIFY, {"dtype": "float32"})
        told = result(Family.TURN, call, [*labels, Finish("stop")])
        with pytest.raises(StreamBroken):
            result(Family.TURN, call, [Label("cat", 1.0), Finish("stop")])

    assert told == {"is_complete": complete, "probability": probability}


@pytest.mark.parametrize(
    ("asked", "format_", "media_type"),
    [
        ({}, "mp3", "audio/mpeg"),
        ({"encoding": "linear16"}, "wav", "audio/wav"),
        ({"encoding": "linear16", "container": "none"}, "pcm", "audio/pcm"),
        ({"encoding": "opus", "container": "ogg"}, "opus", "audio/ogg"),
        ({"encoding": "flac"}, "flac", "audio/flac"),
    ],
)
def test_speech_comes_in_the_format_that_is_asked_for(
    asked: dict[str, str], format_: str, media_type: str
) -> None:
    """Encoding and container together name a file format; it is streamed as it is made."""
    form, given_ = (
        FORMS[Family.SPEECH_BYTES],
        Given(model="m", body={"text": "hi", "speaker": "luna", **asked}),
    )
    call = form.call(given_, **SENDER)
    chunks = form.chunks(given_, call)

    assert call.ask == Speech(voice="luna", format=format_)  # type: ignore[arg-type]
    assert (call.prompts, call.stream, form.media_type(given_, call)) == (("hi",), True, media_type)
    assert chunks is not None
    assert chunks.encode([Sound(b"ab"), Sound(b"c"), Finish("stop")]) == b"abc"
    reply = form.reply(given_, call, [Sound(b"ab"), Sound(b"c"), Finish("stop")])
    assert (reply.content, reply.media_type) == (b"abc", media_type)
    with pytest.raises(StreamBroken):
        form.reply(given_, call, [Sound(b"ab")])


def test_telephone_codecs_are_refused_by_their_field() -> None:
    """Nothing here makes them; the refusal says what may be asked."""
    error = refused(Family.SPEECH_BYTES, body={"text": "hi", "encoding": "mulaw"})
    assert (error.param, "mp3" in error.message) == ("/encoding", True)


def test_melotts_answers_in_base64_and_keeps_its_language() -> None:
    """The file is inside the envelope; a language other than English goes on as a field."""
    call = FORMS[Family.SPEECH_BASE64].call(Given(model="m", body={"prompt": "hola", "lang": "es"}), **SENDER)
    told = result(Family.SPEECH_BASE64, call, [Sound(b"ab"), Sound(b"c"), Finish("stop")])

    assert (call.prompts, call.extra, call.stream) == (("hola",), {"lang": "es"}, False)
    assert told == {"audio": base64.b64encode(b"abc").decode()}


def test_a_picture_is_asked_with_everything_that_shapes_it() -> None:
    """Sizes, steps by either name, guidance, seed, what to avoid, the picture to start from and its mask."""
    body = {
        "prompt": "a ship",
        "negative_prompt": "sails",
        "width": 640,
        "height": 512,
        "num_steps": 8,
        "guidance": 5,
        "strength": 0.5,
        "seed": 7,
        "image": list(PNG),
        "mask": [1, 2],
        "other": 1,
    }
    with called(Family.PICTURE_PNG, body=body) as call:
        assert call.ask == Painting(
            width=640, height=512, steps=8, guidance=5, negative="sails", strength=0.5, masked=True
        )
        assert (call.sampling.seed, call.extra) == (7, {"other": 1})
        assert [content(upload) for upload in call.uploads] == [PNG, b"\x01\x02"]
    assert refused(Family.PICTURE_PNG, body={"prompt": "a", "mask": [1]}).param == "/mask"


def test_a_picture_comes_bare_or_in_base64() -> None:
    """A bare one has the type that its own bytes say, whatever was asked for."""
    events: Batch = [Picture(b"not yet", partial=0), Picture(PNG), Finish("stop")]
    form, given_ = FORMS[Family.PICTURE_JPEG], Given(model="m", body={"prompt": "a"})
    call = form.call(given_, **SENDER)
    reply = form.reply(given_, call, events)

    assert isinstance(call.ask, Painting)
    assert (call.ask.format, reply.media_type, reply.content) == ("jpeg", "image/png", PNG)
    with called(Family.PICTURE_BASE64, body={"prompt": "a", "steps": 4}) as inside:
        assert result(Family.PICTURE_BASE64, inside, events) == {"image": base64.b64encode(PNG).decode()}
        with pytest.raises(StreamBroken):
            result(Family.PICTURE_BASE64, inside, [Picture(PNG, partial=0), Finish("stop")])


def test_a_form_holds_numbers_as_text_and_files_by_number() -> None:
    """flux-2: sizes have its own defaults, pictures come in the order of their names."""
    files = {name: upload_of(name.encode()) for name in ("input_image_1", "input_image_0", "other")}
    given_ = {"body": {"prompt": "a", "width": "512", "steps": "4", "guidance": "2.5"}, "files": files}
    with called(Family.PICTURE_FORM, **given_) as call:
        assert isinstance(call.ask, Painting)
        assert (call.ask.width, call.ask.height, call.ask.steps, call.ask.guidance) == (512, 768, 4, 2.5)
        assert [content(upload) for upload in call.uploads] == [b"input_image_0", b"input_image_1"]
        assert content(files["other"]) == b"other"
    files["other"].close()
    assert refused(Family.PICTURE_FORM, content=None).param == "/"


@pytest.mark.parametrize(
    ("known", "body", "param"),
    [
        (Family.SOUND_BYTES, {"audio": [1, 300]}, "/audio"),
        (Family.SOUND_BYTES, {"audio": [1, "2"]}, "/audio/1"),
        (Family.SOUND_BYTES, {"audio": []}, "/audio"),
        (Family.SOUND_BASE64, {"audio": "%%"}, "/audio"),
        (Family.SOUND_BASE64, {"audio": [1]}, "/audio"),
        (Family.SOUND_BASE64, {}, "/"),
        (Family.SPEECH_BYTES, {"text": " "}, "/text"),
        (Family.SPEECH_BASE64, {"prompt": ""}, "/prompt"),
        (Family.PICTURE_PNG, {"prompt": ""}, "/prompt"),
        (Family.PICTURE_PNG, {"prompt": "a", "width": 9000}, "/width"),
        (Family.PICTURE_FORM, {"prompt": "a", "steps": "many"}, "/steps"),
    ],
)
def test_what_does_not_fit_is_pointed_at(known: Family, body: dict[str, Any], param: str) -> None:
    """The path is that of the body, and nothing is kept of files that were read before."""
    error = refused(known, body=body)
    assert (error.param, f"'{param}'" in error.message) == (param, True)


@pytest.mark.parametrize(
    ("known", "body"),
    [
        (Family.SOUND_BYTES, {"audio": list(FILE)}),
        (Family.SOUND_BASE64, {"audio": BASE64}),
        (Family.TURN, {"audio": BASE64}),
        (Family.IMAGE_LABELS, {"image": list(PNG)}),
        (Family.IMAGE_BOXES, {"image": BASE64}),
        (Family.PICTURE_PNG, {"prompt": "a", "image": list(PNG), "mask": list(PNG)}),
    ],
)
def test_nothing_is_kept_of_a_file_whose_call_is_refused(known: Family, body: dict[str, Any]) -> None:
    """A header that limits a call by nonsense is found when its file is read: no descriptor stays open."""
    sender: Sender = {**SENDER, "headers": {"x-router-timeout": "soon"}}
    before = open_uploads()

    with pytest.raises(CallRefused, match="x-router-timeout"):
        FORMS[known].call(Given(model="m", body=body), **sender)
    assert open_uploads() == before


def test_a_chats_picture_of_anything_but_numbers_is_refused() -> None:
    """Its list is read without a schema."""
    body = {"prompt": "What is it?", "image": [137, "PNG"]}

    assert refused(Family.CLASSIC, body=body).param == "/image"


@given(st.binary(min_size=1, max_size=200))
def test_every_spelling_of_a_file_gives_its_bytes(file: bytes) -> None:
    """Integers, base64 and data: URLs are the same file, whatever is in it."""
    encoded = base64.b64encode(file).decode()
    for value in (list(file), encoded, f"data:image/png;base64,{encoded}"):
        upload = fields.enclosed(value, "image")
        assert content(upload) == file
        upload.close()


def test_subtitles_are_empty_for_silence() -> None:
    """A head and no cue."""
    assert transcript.vtt(()) == "WEBVTT\n\n"
