"""Recordings through the real service: real models in real children, OpenAI's own package."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hostile_media
import numpy as np
import openai
import pytest
from manifest_entries import folder_entry
from memory_peak import growth_bytes, peak_bytes
from recordings import encoded, join_whisper_base, joined, silence, spoken, wav, whisper_tiny, words
from router_process import Router, stopped_at_end

# `base` hears two recordings twice, on shared cores; the package calls translations deprecated.
pytestmark = [pytest.mark.timeout(120), pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")]

MOST_GROWTH_BYTES = 150 * 2**20
DATA = Path(__file__).parent / "data"
FIRST = "The quick brown fox jumps over the lazy dog."
SECOND = "She sells fresh bread at the market every morning."
POLICY = """
server: { listen: 127.0.0.1:0, drain: 5s }
manifest: MANIFEST
timeouts: { connect: 5s, load: 60s, first_token: 100s, between_tokens: 100s, total: 110s }
backends:
  local:
    type: local
    models:
      tiny: { engine: whisper, longest: 10m }
      base: { engine: whisper, preload: false }
aliases:
  tiny: { try: local/tiny }
  base: { try: local/base }
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A router with `tiny.en`, and `base` once it is asked."""
    folder = tmp_path_factory.mktemp("whispers")
    (folder / "tiny").mkdir()
    for file in whisper_tiny().iterdir():
        (folder / "tiny" / file.name).symlink_to(file)
    (folder / "base").mkdir()
    join_whisper_base(folder / "base")
    manifest = folder / "manifest.yaml"
    entries = {name: folder_entry(folder / name, "whisper") for name in ("tiny", "base")}
    manifest.write_text(json.dumps({"models": entries}))  # JSON is YAML
    started = Router(POLICY.replace("MANIFEST", str(manifest)), tmp_path_factory.mktemp("whisper_router"))
    with stopped_at_end(started):
        yield started


@pytest.fixture(scope="module")
def client(service: Router) -> Iterator[openai.OpenAI]:
    """It never tries twice by itself."""
    with openai.OpenAI(base_url=service.url + "/v1", api_key="any", max_retries=0, timeout=100) as made:
        yield made


@pytest.fixture(scope="module")
def recording() -> bytes:
    """Two sentences with a pause of three seconds between them, as mp3."""
    return encoded(joined(silence(0.5), spoken(FIRST), silence(3), spoken(SECOND)), "mp3")


def test_the_package_gets_every_word_with_its_time(client: openai.OpenAI, recording: bytes) -> None:
    """No word is wrong; segments and words are where they were said, behind the pause too."""
    reply = client.audio.transcriptions.create(
        model="tiny",
        file=("talk.mp3", recording),
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )

    assert words(reply.text) == words(FIRST + SECOND)
    assert reply.language == "english"
    assert reply.duration == pytest.approx(9.6, abs=0.5)
    assert reply.words is not None
    assert reply.segments is not None
    assert words(" ".join(word.word for word in reply.words)) == words(FIRST + SECOND)
    she = next(word for word in reply.words if word.word == "She")
    assert she.start == pytest.approx(6.6, abs=0.5)
    assert reply.segments[0].end < 5 < reply.segments[-1].start
    assert reply.usage is not None
    assert reply.usage.seconds == pytest.approx(reply.duration)


def test_a_stream_brings_segments_then_the_whole(client: openai.OpenAI, recording: bytes) -> None:
    """The deltas add up to the text of the last event."""
    with client.audio.transcriptions.create(
        model="tiny", file=("talk.mp3", recording), stream=True
    ) as stream:
        events = list(stream)

    *deltas, done = events
    assert {delta.type for delta in deltas} == {"transcript.text.delta"}
    assert done.type == "transcript.text.done"
    assert "".join(delta.delta for delta in deltas if delta.type == "transcript.text.delta") == done.text
    assert words(done.text) == words(FIRST + SECOND)


def test_subtitles_and_plain_text_are_as_players_want_them(client: openai.OpenAI, recording: bytes) -> None:
    """srt, vtt and text are the documents themselves, not JSON."""
    told: dict[str, Any] = {
        form: client.audio.transcriptions.create(
            model="tiny", file=("talk.mp3", recording), response_format=form
        )
        for form in ("srt", "vtt", "text")
    }

    assert told["srt"].startswith("1\n00:00:00,")
    assert told["vtt"].startswith("WEBVTT\n\n00:00:00.")
    assert words(told["text"]) == words(FIRST + SECOND)


def test_what_a_model_cannot_is_refused_by_name(client: openai.OpenAI, recording: bytes) -> None:
    """A model of English hears no German, and translates nothing."""
    with pytest.raises(openai.BadRequestError, match="English only") as refused:
        client.audio.transcriptions.create(model="tiny", file=("talk.mp3", recording), language="de")
    assert (refused.value.param, refused.value.code) == ("language", "unsupported_parameter")
    with pytest.raises(openai.BadRequestError, match="translate speech") as refused:
        client.audio.translations.create(model="tiny", file=("talk.mp3", recording))
    assert refused.value.code == "unsupported_parameter"


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "empty"), (b"this is a text\n" * 99, "wrong type"), (encoded(silence(700), "flac"), "600s")],
    ids=["empty", "text", "long"],
)
def test_a_file_that_cannot_be_heard_is_the_clients_mistake(
    client: openai.OpenAI, content: bytes, why: str
) -> None:
    """It is told what is wrong with `file`."""
    with pytest.raises(openai.BadRequestError, match=why) as refused:
        client.audio.transcriptions.create(model="tiny", file=("talk.mp3", content))

    assert refused.value.param == "file"


@pytest.fixture(scope="module")
def warm(service: Router, client: openai.OpenAI) -> Router:
    """The service once it has heard something: what that takes is taken."""
    assert heard(client, encoded(spoken(FIRST))) == words(FIRST)
    return service


def heard(client: openai.OpenAI, content: bytes) -> list[str]:
    return words(client.audio.transcriptions.create(model="tiny", file=("talk", content)).text)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (hostile_media.day_of_silence, "longer than 600s"),
        (lambda: hostile_media.day_of_silence(told_s=60), "longer than 600s"),
        (lambda: half(hostile_media.mp4(spoken(FIRST), in_fragments=False)), "damaged or cut off"),
        (lambda: wav(np.full(16_000, np.nan, "<f4").tobytes(), bits=32, floats=True), "no numbers"),
        (lambda: hostile_media.absurd_wavs()["rate"], "2147483647 samples a second"),
        (lambda: hostile_media.absurd_wavs()["channels"], "channels"),
        (lambda: hostile_media.absurd_wavs()["bits"], "cannot be decoded"),
        (lambda: hostile_media.absurd_wavs()["head_size"], "wrong type"),
        (lambda: hostile_media.absurd_wavs()["codec"], "cannot be decoded"),
    ],
    ids=["day", "lying_day", "cut_mp4", "nan", "rate", "channels", "bits", "head_size", "codec"],
)
def test_a_hostile_recording_is_refused_before_it_costs_memory(
    warm: Router, client: openai.OpenAI, made: Callable[[], bytes], why: str
) -> None:
    """A day in a third of a megabyte, heads that cannot be, samples that are no numbers: a 400 for `file`."""
    before, content = peak_bytes(warm), made()

    with pytest.raises(openai.BadRequestError, match=why) as refused:
        heard(client, content)

    assert refused.value.param == "file"
    assert growth_bytes(warm, before) < MOST_GROWTH_BYTES


@pytest.mark.parametrize("scheme", ["file", "http"])
@pytest.mark.parametrize("form", ["hls", "concat", "sdp", "dash", "svg"])
def test_a_playlist_is_never_followed(client: openai.OpenAI, tmp_path: Path, form: str, scheme: str) -> None:
    """Neither to a recording beside it, nor to an address: it is no recording, and nobody is asked."""
    (tmp_path / "talk.wav").write_bytes(encoded(spoken(FIRST)))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"http://127.0.0.1:{listener.getsockname()[1]}"
        name = f"file://{tmp_path}/talk.wav" if scheme == "file" else f"{host}/talk.wav"

        with pytest.raises(openai.BadRequestError, match="no sound file") as refused:
            heard(client, hostile_media.playlists(name)[form])

        assert refused.value.param == "file"
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize(
    ("content", "least"),
    [
        (lambda: hostile_media.wav_from_a_pipe(encoded(spoken(FIRST))), 9),
        (lambda: half(encoded(spoken(FIRST + " " + SECOND), "mp3")), 6),
        (lambda: half(hostile_media.mp4(spoken(FIRST + " " + SECOND), in_fragments=True)), 6),
    ],
    ids=["endless_wav", "cut_mp3", "cut_fragments"],
)
def test_what_is_there_of_a_recording_is_heard(
    client: openai.OpenAI, content: Callable[[], bytes], least: int
) -> None:
    """If its head says more than there is, or its end is missing."""
    said = heard(client, content())

    assert said[:least] == words(FIRST)[:least]
    assert len(said) < 15


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    ("file", "language", "said", "meant"),
    [
        (
            "german.opus",
            "german",
            {"jeden", "morgen", "eine", "tasse", "in", "der", "küche"},
            {"kitchen", "cup"},
        ),
        ("spanish.opus", "spanish", {"mañana", "a", "la", "playa", "con", "amigos"}, {"friends"}),
    ],
)
def test_foreign_speech_is_written_and_translated(
    client: openai.OpenAI, file: str, language: str, said: set[str], meant: set[str]
) -> None:
    """What is spoken is found out, written down in its language, and in English if that is asked for."""
    content = (DATA / file).read_bytes()

    written = client.audio.transcriptions.create(
        model="base", file=(file, content), response_format="verbose_json"
    )
    translated: Any = client.audio.translations.create(
        model="base", file=(file, content), response_format="verbose_json"
    )

    assert written.language == language
    assert said <= set(words(written.text))
    assert (translated.language, translated.task) == ("english", "translate")
    assert meant <= set(words(translated.text))
