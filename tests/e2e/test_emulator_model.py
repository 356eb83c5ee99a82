"""The emulator with a real model behind it: the same contract, real text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from router_process import Emulator, stopped_at_end

pytestmark = pytest.mark.model


def test_a_model_file_answers_instead_of_the_script(tmp_path: Path, model_path: Path) -> None:
    """Text and counts are the model's own."""
    with stopped_at_end(emulator := Emulator(tmp_path, "--model", str(model_path))):
        body = {"prompt": "1, 2, 3, 4, 5, 6, 7,", "raw": True, "max_tokens": 6, "temperature": 0}
        status, _, told = emulator.run("@cf/meta/llama-3.2-1b-instruct", body)

    document = json.loads(told)
    result = document["result"]
    assert (status, document["success"]) == (200, True), document
    assert result["response"].startswith(" 8, 9")
    assert result["usage"]["completion_tokens"] == 6


def test_a_file_that_is_no_model_is_refused_by_name(tmp_path: Path) -> None:
    """Before anything is served."""
    (tmp_path / "bad.gguf").write_bytes(b"no model")

    with pytest.raises(AssertionError, match=r"bad\.gguf: not a GGUF file"):
        Emulator(tmp_path, "--model", str(tmp_path / "bad.gguf"))
