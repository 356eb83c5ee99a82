"""Recordings, speech and pictures from Workers AI through the real service, with OpenAI's own package.

The cloud is scripted, model by model: what its bytes become is looked at here, not how they are made.
"""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import openai
import pytest
from PIL import Image
from router_process import TOKEN, Router, stopped_at_end

# The package calls translations deprecated.
pytestmark = [pytest.mark.timeout(60), pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")]

POLICY = """
server: { listen: 127.0.0.1:0, drain: 5s }
rules: [{ name: once, retries: 0 }]
backends:
  away:
    type: workers_ai
    base_url: CLOUD
    account_id: { env: CLOUDFLARE_ACCOUNT_ID }
    token: { env: CLOUDFLARE_API_TOKEN }
    speakers: { narrator: luna }
    neurons: { daily: 1000000 }
aliases:
  whisper: { try: away/@cf/openai/whisper }
  turbo: { try: away/@cf/openai/whisper-large-v3-turbo }
  aura: { try: away/@cf/deepgram/aura-1 }
  phoenix-then-lucid: { try: [away/@cf/leonardo/phoenix-1.0, away/@cf/leonardo/lucid-origin] }
  sdxl: { try: away/@cf/stabilityai/stable-diffusion-xl-base-1.0 }
  flux: { try: away/@cf/black-forest-labs/flux-2-dev }
"""
SPANISH = "Buenos días a todos los oyentes de la radio."
ENGLISH = "Good morning to all listeners of the radio."
SPOKEN = b"ID3\x04" + bytes(range(256)) * 500
RECORDING = b"OggS" + bytes(300_000)


def picture(kind: str) -> bytes:
    """A small file."""
    file = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(file, kind)
    return file.getvalue()


def result(value: Any) -> tuple[str, bytes]:
    """A reply in its envelope."""
    return "application/json", json.dumps({"result": value, "success": True}).encode()


ANSWERS: dict[str, tuple[str, bytes]] = {
    "@cf/openai/whisper": result(
        {
            "text": SPANISH,
            "vtt": f"WEBVTT\n\n00:00.000 --> 00:03.000\n{SPANISH}\n\n",
            "words": [
                {"word": "Buenos", "start": 0.1, "end": 0.6},
                {"word": "radio.", "start": 2.5, "end": 3.0},
            ],
        }
    ),
    "@cf/openai/whisper-large-v3-turbo": result(
        {
            "text": ENGLISH,
            "transcription_info": {"language": "es", "duration": 3.25},
            "segments": [{"start": 0, "end": 3, "text": ENGLISH}],
        }
    ),
    "@cf/meta/m2m100-1.2b": result({"translated_text": ENGLISH}),
    "@cf/deepgram/aura-1": ("audio/mpeg", SPOKEN),
    "@cf/leonardo/phoenix-1.0": (
        "application/json",
        json.dumps({"success": False, "errors": [{"code": 3040, "message": "busy"}], "result": {}}).encode(),
    ),
    "@cf/leonardo/lucid-origin": result({"image": base64.b64encode(picture("JPEG")).decode()}),
    "@cf/stabilityai/stable-diffusion-xl-base-1.0": ("image/png", picture("PNG")),
    "@cf/black-forest-labs/flux-2-dev": result({"image": base64.b64encode(picture("PNG")).decode()}),
}


class Cloud(BaseHTTPRequestHandler):
    """Answers by model, and keeps what came."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[tuple[str, str, bytes]]] = []

    def do_POST(self) -> None:
        """One request."""
        model = self.path.partition("/ai/run/")[2].partition("?")[0]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Authorization"] == f"Bearer {TOKEN}"
        self.seen.append((model, self.headers["Content-Type"], body))
        media_type, content = ANSWERS[model]
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@contextmanager
def a_cloud() -> Iterator[str]:
    """The cloud, and its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Cloud)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/client/v4"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A router in front of the cloud alone."""
    with a_cloud() as address:
        started = Router(POLICY.replace("CLOUD", address, 1), tmp_path_factory.mktemp("media_router"))
        with stopped_at_end(started):
            yield started


@pytest.fixture
def client(service: Router) -> Iterator[openai.OpenAI]:
    """It never tries twice by itself."""
    Cloud.seen.clear()
    with openai.OpenAI(base_url=service.url + "/v1", api_key="any", max_retries=0, timeout=30) as made:
        yield made


def test_the_package_gets_a_transcript_with_times(client: openai.OpenAI) -> None:
    """Segments and words are the cloud's, and the recording went there as it came here."""
    reply = client.audio.transcriptions.create(
        model="whisper",
        file=("talk.ogg", RECORDING),
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )

    assert reply.text == SPANISH
    assert reply.segments is not None
    assert reply.words is not None
    assert [(segment.start, segment.end) for segment in reply.segments] == [(0.0, 3.0)]
    assert [word.word for word in reply.words] == ["Buenos", "radio."]
    assert Cloud.seen == [("@cf/openai/whisper", "application/octet-stream", RECORDING)]


@pytest.mark.parametrize(("alias", "requests_count"), [("turbo", 1), ("whisper", 2)])
def test_the_package_gets_speech_in_english(client: openai.OpenAI, alias: str, requests_count: int) -> None:
    """One model that translates, or one that hears and one that translates: the client sees no difference."""
    reply = client.audio.translations.create(model=alias, file=("talk.ogg", RECORDING))

    assert reply.text == ENGLISH
    assert len(Cloud.seen) == requests_count


def test_the_package_gets_a_transcript_as_subtitles_and_as_a_stream(client: openai.OpenAI) -> None:
    """Every form of a transcript is made of the same segments."""
    subtitles = client.audio.transcriptions.create(
        model="turbo", file=("talk.ogg", RECORDING), response_format="srt"
    )
    stream = client.audio.transcriptions.create(model="turbo", file=("talk.ogg", RECORDING), stream=True)
    *_, last = stream

    assert str(subtitles).startswith("1\n00:00:00,000 --> 00:00:03,000\nGood morning")
    assert last.type == "transcript.text.done"
    assert last.text == ENGLISH


def test_the_package_streams_speech(client: openai.OpenAI) -> None:
    """The file is the cloud's, byte by byte, by the speaker that the policy names."""
    with client.audio.speech.with_streaming_response.create(
        model="aura", voice="narrator", input="Once upon a time."
    ) as reply:
        content = b"".join(reply.iter_bytes())

    assert content == SPOKEN
    assert reply.headers["content-type"] == "audio/mpeg"
    assert json.loads(Cloud.seen[0][2]) == {
        "text": "Once upon a time.", "speaker": "luna", "encoding": "mp3",
    }  # fmt: skip


def test_an_error_in_a_200_has_the_next_model_paint(client: openai.OpenAI) -> None:
    """JSON instead of a picture is no picture: the second step makes it, and the reply says what it is,
    though another format was asked for."""
    reply = client.images.with_raw_response.generate(model="phoenix-then-lucid", prompt="a teal wall")
    parsed = reply.parse()

    assert [model for model, _, _ in Cloud.seen] == ["@cf/leonardo/phoenix-1.0", "@cf/leonardo/lucid-origin"]
    assert reply.headers["x-router-model"] == "@cf/leonardo/lucid-origin"
    assert parsed.output_format == "jpeg"
    assert parsed.data is not None
    with Image.open(io.BytesIO(base64.b64decode(parsed.data[0].b64_json or ""))) as image:
        assert (image.format, image.size) == ("JPEG", (64, 48))


def test_several_pictures_are_several_requests(client: openai.OpenAI) -> None:
    """`n` of them come with a seed each."""
    reply = client.images.generate(
        model="sdxl", prompt="a teal wall", n=3, size="512x512", extra_body={"seed": 5}
    )

    assert reply.data is not None
    assert len(reply.data) == 3
    assert reply.output_format == "png"
    assert sorted(json.loads(body)["seed"] for _, _, body in Cloud.seen) == [5, 6, 7]


def test_the_package_edits_a_picture(client: openai.OpenAI) -> None:
    """The client's file is a part of the form that the cloud gets."""
    mine = picture("PNG")
    reply = client.images.edit(model="flux", image=("mine.png", mine), prompt="more teal")

    ((model, media_type, body),) = Cloud.seen
    assert model == "@cf/black-forest-labs/flux-2-dev"
    assert media_type.startswith("multipart/form-data")
    assert mine in body
    assert reply.data is not None
    assert reply.data[0].b64_json


def test_what_the_model_cannot_do_is_the_callers_to_hear(client: openai.OpenAI) -> None:
    """A size that the model does not make is a 400 that names the field."""
    with pytest.raises(openai.BadRequestError, match="256 to 1920 pixels") as refused:
        client.images.generate(model="flux", prompt="a wall", size="2048x2048")

    assert refused.value.param == "size"
    assert Cloud.seen == []
