"""Forms of recordings: what they ask for, and what is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hybrid_router.api.multipart import Form
from hybrid_router.api.openai import transcription_request
from hybrid_router.api.openai.transcription_request import TranscriptionRequest
from hybrid_router.core.asks import Transcription
from hybrid_router.core.call import Feature
from hybrid_router.core.errors import CallRefused
from hybrid_router.core.upload import Upload, upload_of

Decode = Callable[..., TranscriptionRequest]


@pytest.fixture
def file() -> Iterator[Upload]:
    made = upload_of(b"sound", "talk.mp3", "audio/mpeg")
    yield made
    made.close()


def decoded(
    file: Upload, decode: Decode = transcription_request.transcription, **fields: str | list[str]
) -> TranscriptionRequest:
    told = {name: [value] if isinstance(value, str) else value for name, value in fields.items()}
    form = Form(fields={"model": ["ears"], **told}, files={"file": [file]})
    return decode(form, call_id="transcript-1", principal="local", headers={})


def ask(asked: TranscriptionRequest) -> Transcription:
    assert isinstance(asked.call.ask, Transcription)
    return asked.call.ask


def test_a_form_becomes_a_call(file: Upload) -> None:
    """Texts of a form are numbers and truth values where those are wanted; an empty one is not set."""
    asked = decoded(
        file,
        language="German",
        temperature="0.2",
        prompt="Herr Meier",
        keywords=["Müller", "Bahn"],
        response_format="verbose_json",
        timestamp_granularities=["word"],
        vad_filter="false",
        stream="",
    )

    assert ask(asked) == Transcription(language="de", temperature=0.2, words=True, voice_only=False)
    assert asked.call.prompts == ("Müller, Bahn Herr Meier",)
    assert asked.call.uploads == (file,)
    assert asked.format == "verbose_json"
    assert asked.granularities == {"word"}
    assert not asked.call.stream
    assert asked.call.extra == {}


def test_as_little_as_possible_is_enough(file: Upload) -> None:
    """A file and a model; everything else is the model's own."""
    asked = decoded(file)

    assert ask(asked) == Transcription()
    assert asked.format == "json"
    assert asked.granularities == {"segment"}
    assert asked.call.features == frozenset()


def test_a_translation_needs_a_model_that_can(file: Upload) -> None:
    """Steps that cannot are left out of the plan."""
    asked = decoded(file, transcription_request.translation, prompt="Mr. Meier")

    assert ask(asked) == Transcription(translates=True)
    assert asked.call.features == {Feature.SPEECH_TRANSLATION}


def test_what_nobody_knows_is_kept_to_be_named(file: Upload) -> None:
    """`x-router-ignored` tells the client."""
    assert decoded(file, transcription_request.translation, language="de").call.extra == {"language": "de"}


def test_auto_is_what_is_done_anyway(file: Upload) -> None:
    """The one chunking strategy that there is."""
    assert ask(decoded(file, chunking_strategy="auto")).voice_only is True


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "diarized_json"}, "response_format"),
        ({"response_format": "xml"}, "response_format"),
        ({"include": ["logprobs"]}, "include"),
        ({"known_speaker_names": ["Ann"]}, "known_speaker_names"),
        ({"known_speaker_references": ["data:"]}, "known_speaker_references"),
        ({"chunking_strategy": "server_vad"}, "chunking_strategy"),
        ({"chunking_strategy[type]": "server_vad"}, "chunking_strategy"),
        ({"languages": ["de", "en"]}, "languages"),
        ({"timestamp_granularities": ["word"]}, "timestamp_granularities"),
        ({"timestamp_granularities": ["line"]}, "timestamp_granularities[0]"),
        ({"stream": "true", "response_format": "srt"}, "stream"),
        ({"temperature": "1.5"}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"api_base": "http://elsewhere"}, "api_base"),
        ({"model": ""}, "model"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(file: Upload, fields: dict[str, Any], param: str) -> None:
    """Not left out silently."""
    with pytest.raises(CallRefused) as refused:
        decoded(file, **fields)

    found = refused.value.param or ""
    assert found.replace("[...]", "").split("[")[0] == param.split("[", maxsplit=1)[0]


@pytest.mark.parametrize("names", [(), ("file", "file"), ("file", "image"), ("audio",)])
def test_there_is_one_file(file: Upload, names: tuple[str, ...]) -> None:
    """None, two, or one of another name: the client is told which field is wrong."""
    files: dict[str, list[Upload]] = {}
    for name in names:
        files.setdefault(name, []).append(file)

    with pytest.raises(CallRefused) as refused:
        transcription_request.transcription(
            Form(fields={"model": ["ears"]}, files=files), call_id="1", principal="local", headers={}
        )

    assert refused.value.param == ("image" if "image" in names else "file")
