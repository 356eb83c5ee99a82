"""Which device an engine computes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hybrid_router.engines.devices import torch_device
from hybrid_router.engines.settings import WhisperSettings
from hybrid_router.engines.task import EngineFailed
from hybrid_router.engines.whisper.opening import opened_model

NO_GPU = "there is no usable GPU; set device: auto or cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    """With what to write instead, whichever library the engine is built on."""
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes(b"")

    with pytest.raises(EngineFailed, match=NO_GPU):
        torch_device("cuda")
    with pytest.raises(EngineFailed, match=NO_GPU):
        opened_model(WhisperSettings(path=str(tmp_path), device="cuda"))
    assert torch_device("auto").type == "cpu"
