"""An engine that is not installed: what `check` warns of, and what a client is told."""

from __future__ import annotations

import sys
from pathlib import Path

import openai
import pytest
from click.testing import CliRunner
from router_process import Router, stopped_at_end

from hybrid_router.cli.check import command

pytestmark = pytest.mark.timeout(90)

POLICY = """
server: { listen: 127.0.0.1:0 }
backends: { local: { type: local, models: { ears: { engine: whisper } } } }
aliases: { stt: { try: local/ears } }
"""
# Python runs this before anything else, and then finds no such module.
WITHOUT = "import sys\nsys.modules['faster_whisper'] = None\n"


def test_check_and_the_endpoint_say_the_same_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a missing extra: what is not installed, and the command that installs it."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT)
    service = Router(POLICY, tmp_path / "router", environ={"PYTHONPATH": str(tmp_path)})
    with (
        stopped_at_end(service),
        openai.OpenAI(base_url=service.url + "/v1", api_key="any", max_retries=0) as client,
        pytest.raises(openai.APIStatusError) as refused,
    ):
        client.audio.transcriptions.create(model="stt", file=("a.wav", b"RIFF"))
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    checked = CliRunner().invoke(command, ["--config", str(service.folder / "router.yaml")])

    [sentence] = [
        line.partition("ears.engine: ")[2] for line in checked.stderr.splitlines() if "ears.engine" in line
    ]
    assert sentence.startswith("faster_whisper is not installed: install hybrid-router's `audio` extra (")
    assert "pip install" in sentence
    assert refused.value.status_code == 501
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["code"] == "engine_not_installed"
    assert refused.value.body["message"] == f"local/ears: {sentence}"
