"""The emulator with the local models of a router.yaml behind it: real answers where there are models."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import json
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from router_policy import place_model
from router_process import Emulator, stopped_at_end

pytestmark = [pytest.mark.model, pytest.mark.timeout(120)]

POLICY = """
server: { listen: 127.0.0.1:0 }
manifest: manifest.yaml
backends:
  elsewhere: { type: workers_ai, account_id: { env: NOWHERE }, token: { env: NOTHING } }
  local:
    type: local
    models:
      voice: { engine: speech, threads: 1, preload: false }
      smol: { preload: false }
aliases:
  chat: { try: local/smol }
"""


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory, model_path: Path) -> Iterator[Emulator]:
    """An emulator whose text and speech are made here."""
    folder = tmp_path_factory.mktemp("local")
    manifest = place_model(folder, model_path)
    spec = importlib.util.find_spec("hibari")
    assert spec is not None, "the starter voice is not installed: run `make test`"
    assert spec.origin is not None
    model = Path(spec.origin).parent / "assets" / "hibari.onnx"
    (folder / "voice").mkdir()
    (folder / "voice" / model.name).symlink_to(model)
    file = {"sha256": hashlib.sha256(model.read_bytes()).hexdigest(), "size_bytes": model.stat().st_size}
    voice = {"folder": "voice", "files": {model.name: file}, "engine": "speech"}
    manifest.write_text(f"{manifest.read_text()}  voice: {json.dumps(voice)}\n")  # JSON is YAML
    (folder / "router.yaml").write_text(POLICY)
    with stopped_at_end(started := Emulator(folder, "--use-local", str(folder / "router.yaml"))):
        yield started


def test_text_is_the_local_models(emulator: Emulator) -> None:
    """Written by SmolLM2, in the cloud's shape; the script would repeat what was said."""
    asked = {"prompt": "The capital of France is", "raw": True, "max_tokens": 6, "temperature": 0}
    status, _, body = emulator.run("@cf/meta/llama-3.2-1b-instruct", asked)

    assert status == 200, body
    assert json.loads(body)["result"]["response"].startswith(" Paris")


def test_speech_is_the_local_voice(emulator: Emulator) -> None:
    """Real sound comes out of both of the cloud's forms; a speaker of the cloud is no obstacle."""
    status, kind, file = emulator.run("@cf/deepgram/aura-1", {"text": "Hello there.", "speaker": "luna"})
    assert (status, kind) == (200, "audio/mpeg"), file
    _, _, body = emulator.run("@cf/myshell-ai/melotts", {"prompt": "Hello there."})

    for sound in (file, base64.b64decode(json.loads(body)["result"]["audio"])):
        with av.open(io.BytesIO(sound), "r") as container:
            loudest = max(float(np.abs(frame.to_ndarray()).max()) for frame in container.decode(audio=0))
        assert loudest > 0.01  # the emulator's own stand-in is silent


def test_what_no_local_model_does_is_played(emulator: Emulator) -> None:
    """Translation has no model in that file."""
    _, _, body = emulator.run("@cf/meta/m2m100-1.2b", {"text": "hello", "target_lang": "de"})

    assert json.loads(body)["result"] == {"translated_text": "[de] hello"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (POLICY, "has no local model that can answer"),
        ("backends: 5", "backends"),
    ],
)
def test_a_file_without_models_is_refused_by_name(tmp_path: Path, text: str, told: str) -> None:
    """Before anything is served, with the reason for each model."""
    (tmp_path / "router.yaml").write_text(text)
    (tmp_path / "manifest.yaml").write_text("models: {}\n")

    with pytest.raises(AssertionError, match=told):
        Emulator(tmp_path, "--use-local", str(tmp_path / "router.yaml"))
