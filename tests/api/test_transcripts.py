"""Transcripts as clients read them: JSON, text, subtitles, streams."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.api.openai import transcripts
from hybrid_router.api.openai.transcription_request import Format, Granularity, TranscriptionRequest
from hybrid_router.core.asks import Transcription
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import StreamBroken
from hybrid_router.core.event import Batch, Finish, Heard, Progress, Segment, Usage, Word

HELLO = Segment(
    " Hello  there.", 0.0, 1.5, tokens=(1, 2), words=(Word(" Hello", 0.0, 0.6), Word(" there.", 0.6, 1.5))
)
LATE = Segment(" Bye --> now.", 3723.0, 3724.25, seek=372000)
EVENTS: Batch = [
    Heard("de", 3730.0, 0.9), Progress(0.5), HELLO, LATE, Finish("stop"), Usage(0, 9, sound_s=3725.5)
]  # fmt: skip


def asked(form: Format, *granularities: Granularity, translates: bool = False) -> TranscriptionRequest:
    call = Call(
        id="transcript-1",
        operation=Operation.TRANSCRIBE,
        alias="ears",
        ask=Transcription(translates=translates),
    )
    return TranscriptionRequest(call, form, frozenset(granularities or ("segment",)))


def told(form: Format, *granularities: Granularity, **chosen: bool) -> Any:
    return json.loads(transcripts.document(asked(form, *granularities, **chosen), EVENTS))


def test_json_is_the_text_and_what_it_cost() -> None:
    """How long the sound is as it was counted, not as the file said."""
    assert told("json") == {
        "text": "Hello  there. Bye --> now.",
        "usage": {"type": "duration", "seconds": 3725.5},
    }


def test_verbose_json_has_segments_or_words_or_both() -> None:
    """As the client wants."""
    both = told("verbose_json", "word", "segment")

    assert (both["language"], both["duration"], both["task"]) == ("german", 3725.5, "transcribe")
    assert both["words"][1] == {"word": "there.", "start": 0.6, "end": 1.5}
    assert [segment["id"] for segment in both["segments"]] == [0, 1]
    assert both["segments"][1]["seek"] == 372000
    assert "words" not in told("verbose_json")
    assert "segments" not in told("verbose_json", "word")


def test_a_translation_is_english() -> None:
    """Whatever was spoken."""
    found = told("verbose_json", translates=True)

    assert (found["language"], found["task"]) == ("english", "translate")


def test_subtitles_are_what_players_read() -> None:
    """Hours are there, a text is one line, and never looks like times."""
    assert transcripts.document(asked("srt"), EVENTS).decode() == (
        "1\n00:00:00,000 --> 00:00:01,500\nHello there.\n\n2\n01:02:03,000 --> 01:02:04,250\nBye -> now.\n\n"
    )
    assert transcripts.document(asked("vtt"), EVENTS).decode() == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello there.\n\n"
        "01:02:03.000 --> 01:02:04.250\nBye -> now.\n\n"
    )


@pytest.mark.parametrize(
    ("form", "kind"), [("json", "application/json"), ("text", "text/plain"), ("vtt", "text/vtt")]
)
def test_a_document_says_what_it_is(form: Format, kind: str) -> None:
    """By its content type."""
    assert transcripts.content_type(asked(form)).startswith(kind)


def test_an_answer_that_says_nothing_is_broken() -> None:
    """An empty transcript is only what was heard as one."""
    with pytest.raises(StreamBroken):
        transcripts.document(asked("json"), [Finish("stop")])
    assert transcripts.document(asked("text"), [Heard("en", 1.0), Finish("stop")]) == b"\n"


@given(st.lists(st.text(max_size=20), max_size=5), st.integers(0, 5))
def test_deltas_add_up_to_the_whole(texts: list[str], cut: int) -> None:
    """However events are batched, and whatever is said, line breaks and all."""
    events: Batch = [Heard("en", 9.0), *(Segment(text, 0.0, 1.0) for text in texts), Finish("stop")]
    chunks = transcripts.TranscriptChunks()

    sent = chunks.encode(events[:cut]) + chunks.encode(events[cut:])
    assert chunks.whole
    *documents, last = (sent + chunks.end()).decode().split("\n\n")[:-1]

    assert last == "data: [DONE]"
    *deltas, done = [msgspec.json.decode(document.removeprefix("data: ")) for document in documents]
    assert "".join(delta["delta"] for delta in deltas).strip() == done["text"].strip()
    assert {delta["type"] for delta in deltas} <= {"transcript.text.delta"}
    assert done["type"] == "transcript.text.done"
