"""Text read aloud by the real service: the starter voice in a real child, OpenAI's own package."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import json
import math
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from pathlib import Path
from typing import Any, Literal

import av
import openai
import pytest
from router_process import Router, eventually, stopped_at_end

pytestmark = pytest.mark.timeout(90)

Format = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
TYPES: dict[Format, str] = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
TEXT = "Hello there. The weather is nice today."
LONG = ("It goes on and on, a sentence after the other, and nobody knows when it ends. " * 60)[:4096]
POLICY = """
server: { listen: 127.0.0.1:0, drain: 5s }
manifest: MANIFEST
backends:
  local:
    type: local
    models:
      voice: { engine: speech, voices: { narrator: heart } }
aliases:
  tts: { try: local/voice }
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A router with the starter voice."""
    spec = importlib.util.find_spec("hibari")
    assert spec is not None, "the starter voice is not installed: run `make test`"
    assert spec.origin is not None
    model = Path(spec.origin).parent / "assets" / "hibari.onnx"
    folder = tmp_path_factory.mktemp("voices")
    (folder / "voice").mkdir()
    (folder / "voice" / model.name).symlink_to(model)
    told = {"sha256": hashlib.sha256(model.read_bytes()).hexdigest(), "size_bytes": model.stat().st_size}
    entry = {"folder": "voice", "engine": "speech", "files": {model.name: told}}
    (folder / "manifest.yaml").write_text(json.dumps({"models": {"voice": entry}}))  # JSON is YAML
    policy = POLICY.replace("MANIFEST", str(folder / "manifest.yaml"))
    started = Router(policy, tmp_path_factory.mktemp("speech_router"))
    with stopped_at_end(started):
        yield started


@pytest.fixture(scope="module")
def client(service: Router) -> Iterator[openai.OpenAI]:
    """It never tries twice by itself."""
    with openai.OpenAI(base_url=service.url + "/v1", api_key="any", max_retries=0, timeout=60) as made:
        yield made


def duration_s(form: Format, content: bytes) -> float:
    """How long a file plays."""
    if form == "pcm":
        return len(content) / 2 / 24_000
    with av.open(io.BytesIO(content), "r") as file:
        return math.fsum(frame.samples / frame.sample_rate for frame in file.decode(audio=0))


@contextmanager
def asked(service: Router, **fields: Any) -> Iterator[HTTPResponse]:
    """A reply whose body is still to come."""
    connection = HTTPConnection("127.0.0.1", service.port, timeout=60)
    try:
        body = json.dumps({"model": "tts", "input": TEXT, "voice": "alloy", **fields})
        connection.request("POST", "/v1/audio/speech", body, {"content-type": "application/json"})
        yield connection.getresponse()
    finally:
        connection.close()


def test_the_package_gets_a_file_in_every_format(client: openai.OpenAI) -> None:
    """Each with its type, and all of the same length."""
    lengths: dict[Format, float] = {}
    for form, kind in TYPES.items():
        reply = client.audio.speech.create(model="tts", voice="alloy", input=TEXT, response_format=form)
        assert reply.response.headers["content-type"] == kind
        lengths[form] = duration_s(form, reply.content)

    assert lengths["pcm"] > 2
    assert list(lengths.values()) == pytest.approx([lengths["pcm"]] * len(TYPES), abs=0.1)


def test_the_package_streams_the_same_file(client: openai.OpenAI) -> None:
    """Piece by piece; mp3, if nothing else is asked for."""
    whole = client.audio.speech.create(model="tts", voice="heart", input=TEXT).content
    with client.audio.speech.with_streaming_response.create(
        model="tts", voice="narrator", input=TEXT, instructions="Whisper."
    ) as reply:
        assert reply.headers["content-type"] == "audio/mpeg"
        assert reply.headers["x-router-ignored"] == "instructions"
        assert "content-length" not in reply.headers
        assert b"".join(reply.iter_bytes()) == whole


def test_events_hold_the_same_file(service: Router) -> None:
    """Deltas in base64, a sentence each or more, then what was counted."""
    with asked(service, response_format="wav") as reply:
        whole = reply.read()
    with asked(service, response_format="wav", stream_format="sse") as reply:
        assert str(reply.headers["content-type"]).startswith("text/event-stream")
        lines = reply.read().decode().split("\n\n")
    *deltas, done = [json.loads(line.removeprefix("data: ")) for line in lines if line]

    assert {delta["type"] for delta in deltas} == {"speech.audio.delta"}
    assert len(deltas) >= 2
    assert b"".join(base64.b64decode(delta["audio"]) for delta in deltas) == whole
    assert done["type"] == "speech.audio.done"
    assert done["usage"]["total_tokens"] == done["usage"]["input_tokens"] > 0


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"voice": "bob"}, "voice"),
        ({"input": " "}, "input"),
        ({"input": "你好"}, "input"),
        ({"input": "a" * 4097}, "input"),
        ({"speed": 4.5}, "speed"),
        ({"response_format": "ogg"}, "response_format"),
    ],
)
def test_a_mistake_is_told_by_its_field(service: Router, wrong: dict[str, Any], param: str) -> None:
    """With a status, since nothing was sent yet."""
    with asked(service, **wrong) as reply:
        assert reply.status == 400
        assert json.load(reply)["error"]["param"] == param


def test_a_voice_may_be_an_object(service: Router) -> None:
    """As OpenAI writes voices of one's own."""
    with asked(service, voice={"id": "heart"}, input="Hi.") as reply:
        assert reply.status == 200
        assert reply.read()


def test_who_hangs_up_is_not_read_to(service: Router) -> None:
    """The call ends as the client's, and the next is answered."""
    before = service.log_text.count('"client_gone"')
    with asked(service, input=LONG, speed=0.25) as reply:
        assert reply.read1()

    eventually(lambda: service.log_text.count('"client_gone"') > before, "the call's end in the log")
    with asked(service, input="Next.") as reply:
        assert duration_s("mp3", reply.read()) > 0


def test_sound_comes_while_it_is_made_and_breaks_off_openly(service: Router) -> None:
    """The first piece is here while the voice is at work on the rest: when it dies, the file has no end, and
    the client can tell."""
    with asked(service, input=LONG, response_format="pcm", speed=0.25) as reply:
        assert reply.read1()
        os.kill(service.worker(), signal.SIGKILL)
        with pytest.raises((IncompleteRead, ConnectionResetError)):
            reply.read()
