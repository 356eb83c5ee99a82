"""What a model's folder says against its settings."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from hybrid_router.cli.doubts import doubts
from hybrid_router.cli.folders import voices
from hybrid_router.cli.mistakes import mistakes
from hybrid_router.cli.room import counted
from hybrid_router.config.load import load
from hybrid_router.config.schema import Loaded
from hybrid_router.engines.settings import VoiceSettings
from hybrid_router.engines.speech.opening import opened_voices
from hybrid_router.workers.memory import Machine

ROOT = Path(__file__).parents[2]
HIBARI = ROOT / "models" / "hibari"
POOLED = [
    {"type": "sentence_transformers.models.Transformer", "path": ""},
    {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
]


def loaded(folder: Path, engine: str, keys: str, files: dict[str, Any]) -> Loaded:
    """A configuration with a model `m` whose folder has these files."""
    place = folder / "models/m"
    place.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (place / name).write_text(content if isinstance(content, str) else json.dumps(content))
    listed = {name: {"sha256": "0" * 64, "size_bytes": 1} for name in files}
    entry = {"engine": engine, "folder": "m", "files": listed}
    (folder / "models/manifest.yaml").write_text(yaml.safe_dump({"models": {"m": entry}}))
    path = folder / "router.yaml"
    path.write_text(
        f"backends: {{local: {{type: local, models: {{m: {{engine: {engine}, {keys}}}}}}}}}\n"
        "aliases: {x: {try: local/m}}\n"
    )
    return load(path, {})


def speaker(folder: Path, keys: str) -> Loaded:
    """With hibari's one voice, of two that its list knows."""
    listed = {"heart": {"file": "hibari.onnx"}, "emma": {"file": "emma.onnx"}}
    return loaded(folder, "speech", keys, {"voices.json": listed, "hibari.onnx": "", "oov.onnx": ""})


def test_a_voice_that_the_folder_lacks(tmp_path: Path) -> None:
    """Refused at its key, by its own name or a client's; those that are there are named."""
    found = mistakes(counted(speaker(tmp_path, "voice: hart, voices: {alloy: emma, nova: heart}"), Machine()))

    assert [(each.path, each.message) for each in found] == [
        ("backends.local.models.m.voice", "m has no voice hart; did you mean heart?"),
        ("backends.local.models.m.voices.alloy", "m has no voice emma; there is heart"),
    ]
    assert mistakes(counted(speaker(tmp_path, "voice: heart"), Machine())) == ()
    assert mistakes(counted(speaker(tmp_path, "preload: false"), Machine())) == ()


def test_a_folder_that_is_not_whole_is_not_judged(tmp_path: Path) -> None:
    """Its files may be brought tomorrow; that they lack is told elsewhere."""
    config = speaker(tmp_path, "voice: nobody")
    (tmp_path / "models/m/hibari.onnx").unlink()

    assert mistakes(counted(config, Machine())) == ()


def test_networks_of_unknown_names_tell_nothing(tmp_path: Path) -> None:
    """Whose voice a network is may stand only in itself: no name is refused then."""
    place = tmp_path / "m"
    place.mkdir()
    (place / "own.onnx").touch()
    assert voices(place) == ()
    (place / "voices.json").write_text('["no", "list"]')
    assert voices(place) == ()


def test_kokoros_voices_are_read_from_their_archive(tmp_path: Path) -> None:
    """The English ones, which are the ones that are opened; what is no archive tells nothing."""
    (tmp_path / "model.onnx").touch()
    with zipfile.ZipFile(tmp_path / "voices-v1.0.bin", "w") as archive:
        for name in ("af_heart", "bf_emma", "jf_alpha"):
            archive.writestr(f"{name}.npy", b"")
    assert voices(tmp_path) == ("af_heart", "bf_emma")

    (tmp_path / "voices-v1.0.bin").write_bytes(b"numbers")
    assert voices(tmp_path) == ()


@pytest.mark.skipif(not HIBARI.is_dir(), reason="hibari's files are not placed")
def test_the_folders_voices_are_those_that_the_engine_opens() -> None:
    """What is read here without a library is what the engine finds with it."""
    opened = opened_voices(VoiceSettings(path=str(HIBARI), threads=1))

    assert voices(HIBARI) == tuple(sorted(opened))


def encoder(folder: Path, purpose: str, **files: Any) -> Loaded:
    """An encoder's folder, its weights aside."""
    named = {name.replace("_json", ".json"): content for name, content in files.items()}
    return loaded(folder, "sentence_transformers", f"purpose: {purpose}", {"model.safetensors": "", **named})


def test_an_embedder_that_is_to_rank(tmp_path: Path) -> None:
    """Its modules make vectors of texts: refused, with what it is for."""
    (problem,) = mistakes(counted(encoder(tmp_path, "rerank", modules_json=POOLED), Machine()))

    assert problem.path == "backends.local.models.m.weights"
    assert problem.message.endswith("modules.json: it gives vectors, not scores; set `purpose: embed`")
    assert mistakes(counted(encoder(tmp_path, "embed", modules_json=POOLED), Machine())) == ()


def test_a_cross_encoder_that_is_to_embed(tmp_path: Path) -> None:
    """Refused by what its engine would say of it."""
    made = {"architectures": ["BertForSequenceClassification"]}

    (problem,) = mistakes(counted(encoder(tmp_path, "embed", config_json=made), Machine()))

    assert problem.message.endswith("BertForSequenceClassification gives scores; set `purpose: rerank`")


@pytest.mark.parametrize(
    ("made", "doubted"),
    [
        ({"architectures": ["BertModel"]}, True),
        ({"architectures": ["BertForSequenceClassification"]}, False),
        ({"architectures": ["Qwen3ForCausalLM"]}, False),
        ({"architectures": []}, False),
        ({}, False),
    ],
)
def test_a_plain_model_that_is_to_rank_is_doubted(tmp_path: Path, made: object, doubted: bool) -> None:
    """What is not said to give scores probably gives vectors; it may be tried all the same."""
    config = encoder(tmp_path, "rerank", config_json=made)

    found = [each.message for each in doubts(counted(config, Machine())) if each.path.endswith("purpose")]

    assert mistakes(counted(config, Machine())) == ()
    assert bool(found) == doubted
    assert all("a BertModel gives vectors, not scores: is it a cross-encoder?" in each for each in found)
