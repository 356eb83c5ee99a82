"""What a speech request becomes, and its answer on the wire."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from hybrid_router.api.openai import speech_request
from hybrid_router.api.openai.speech import SoundBytes, SoundEvents
from hybrid_router.api.openai.speech_request import SpeechRequest
from hybrid_router.core.asks import Speech
from hybrid_router.core.call import Operation
from hybrid_router.core.errors import CallRefused, UnsupportedParameter
from hybrid_router.core.event import Batch, Finish, Sound, Usage

ANSWER: list[Batch] = [
    [Sound(b"ab"), Sound(b"c")],
    [Usage(0, 0)],
    [Sound(b"d")],
    [Finish("stop"), Usage(7, 0)],
]


def decoded(**fields: Any) -> SpeechRequest:
    body = {"model": "tts", "input": "Hi.", **fields}
    return speech_request.decode(
        json.dumps(body).encode(), call_id="speech-1", principal="ann", headers={}, path="/v1/audio/speech"
    )


def test_a_request_is_a_call() -> None:
    """With OpenAI's defaults; it streams, whatever its form."""
    asked = decoded()

    assert asked.call.operation is Operation.SPEAK
    assert (asked.call.prompts, asked.call.alias, asked.call.principal) == (("Hi.",), "tts", "ann")
    assert asked.call.ask == Speech(voice="", speed=1.0, format="mp3")
    assert asked.call.stream
    assert not asked.events


def test_every_field_is_taken() -> None:
    """And what no local voice can do is left to be told as ignored."""
    asked = decoded(
        voice={"id": "emma"}, response_format="flac", speed=2, stream_format="sse", instructions="Whisper."
    )

    assert asked.ask == asked.call.ask == Speech(voice="emma", speed=2.0, format="flac")
    assert asked.events
    assert asked.call.extra == {"instructions": "Whisper."}


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"input": "\n"}, "input"),
        ({"input": ["Hi."]}, "input"),
        ({"input": "x" * 4097}, "input"),
        ({"voice": {"name": "emma"}}, "voice.id"),
        ({"voice": 3}, "voice"),
        ({"speed": 0.2}, "speed"),
        ({"stream_format": "json"}, "stream_format"),
        ({"response_format": "m4a"}, "response_format"),
    ],
)
def test_a_mistake_names_its_field(wrong: dict[str, Any], param: str) -> None:
    """As every dialect's decoder does."""
    with pytest.raises(CallRefused) as refused:
        decoded(**wrong)
    assert refused.value.param == param


def test_a_destination_is_refused() -> None:
    """A client may not choose where its text goes."""
    with pytest.raises(UnsupportedParameter):
        decoded(base_url="http://example.invalid")


def test_a_file_is_its_bytes_and_nothing_else() -> None:
    """Whole once the choice is finished, not before."""
    chunks = SoundBytes()
    sent = [chunks.encode(batch) for batch in ANSWER[:-1]]
    assert not chunks.whole

    assert [*sent, chunks.encode(ANSWER[-1]), chunks.end()] == [b"abc", b"", b"d", b"", b""]
    assert chunks.whole


def test_events_are_the_packages_own() -> None:
    """A delta for each batch that has sound, and the count at the end."""
    chunks = SoundEvents()
    sent = b"".join(map(chunks.encode, ANSWER)) + chunks.end()
    documents = [json.loads(line.removeprefix(b"data: ")) for line in sent.split(b"\n\n") if line]

    assert [base64.b64decode(each["audio"]) for each in documents[:-1]] == [b"abc", b"d"]
    assert documents[-1] == {
        "type": "speech.audio.done",
        "usage": {"input_tokens": 7, "output_tokens": 0, "total_tokens": 7},
    }
    assert chunks.whole
