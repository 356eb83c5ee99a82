"""Projectors that cannot be used: each is refused by name when the model is opened, and nothing dies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_projector

from hybrid_router.core.call import Feature
from hybrid_router.engines.llama.engine import LlamaEngine
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.engines.task import EngineFailed


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_projector.write_model(tmp_path_factory.mktemp("tiny") / "model.gguf")


def opened(model: Path, projector: Path) -> frozenset[Feature]:
    """What a model can do with this projector."""
    engine = LlamaEngine(
        LlamaSettings(
            path=str(model),
            context=64,
            parallel=1,
            threads=1,
            prefill_chunk=32,
            projector_path=str(projector),
        )
    )
    try:
        return engine.opened().can
    finally:
        engine.close()


def test_a_model_can_what_its_projector_reads(model: Path, tmp_path: Path) -> None:
    """Images or sound, not both."""
    media = {Feature.IMAGES, Feature.AUDIO}

    assert opened(model, tiny_projector.write(tmp_path / "v.gguf")) & media == {Feature.IMAGES}
    assert opened(model, tiny_projector.write(tmp_path / "a.gguf", "ultravox")) & media == {Feature.AUDIO}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"width": 48}, "mismatch between text model"),
        ({"clip__projector_type": "unheard_of"}, "unknown projector type"),
        ({"clip__has_vision_encoder": False}, "neither images nor sound"),
        ({"clip__vision__patch_size": 0}, "patch_size"),
        ({"clip__vision__attention__head_count": 0}, "head_count"),
        ({"clip__vision__block_count": 3}, "unable to find tensor"),
        ({"clip__vision__image_mean": [0.5]}, "image_mean"),
    ],
)
def test_what_does_not_fit_is_named(model: Path, tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    """With the file and the reason."""
    path = tiny_projector.write(tmp_path / "mmproj.gguf", **changed)

    with pytest.raises(EngineFailed, match=words) as failed:
        opened(model, path)

    assert str(failed.value).startswith(f"{path}: ")


def test_a_model_is_no_projector(model: Path) -> None:
    """Says what to write instead."""
    with pytest.raises(EngineFailed, match="no projector, but a model"):
        opened(model, model)


def test_a_projector_of_another_vocabulary_is_refused(model: Path, tmp_path: Path) -> None:
    """Its images would come between words that the model does not have."""
    path = tiny_projector.write(tmp_path / "mmproj.gguf", "idefics3")

    with pytest.raises(EngineFailed, match="puts words around images that the model does not have"):
        opened(model, path)


def test_a_damaged_projector_is_named(model: Path, tmp_path: Path) -> None:
    """Wherever it was cut off."""
    whole = tiny_projector.write(tmp_path / "whole.gguf").read_bytes()
    path = tmp_path / "cut.gguf"
    for length in (0, 3, 100, 4096, len(whole) - 100):
        path.write_bytes(whole[:length])
        with pytest.raises(EngineFailed, match=r"cut\.gguf: "):
            opened(model, path)
    path.unlink()
    with pytest.raises(EngineFailed, match="cannot be read"):
        opened(model, path)
