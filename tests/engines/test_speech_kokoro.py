"""Kokoro's files, in the forms in which they are shared: a network of the same face, and styles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_onnx

from hybrid_router.engines.settings import VoiceSettings
from hybrid_router.engines.speech.opening import opened_voices
from hybrid_router.engines.task import EngineFailed

LENGTHS = 510
STYLES = np.repeat(np.arange(LENGTHS, dtype=np.float32)[:, None] / 1000, 256, axis=1)


def opened(path: Path) -> dict[str, object]:
    return dict(opened_voices(VoiceSettings(path=str(path))))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The archive's form: all voices in one `.bin`, which is numpy's npz."""
    tiny_onnx.kokoro(tmp_path / "kokoro-v1.0.onnx")
    with (tmp_path / "voices-v1.0.bin").open("wb") as file:
        np.savez(file, af_heart=STYLES[:, None, :], bm_george=STYLES[:, None, :], ef_dora=STYLES[:, None, :])
    return tmp_path


def test_english_voices_of_an_archive_are_there(folder: Path) -> None:
    """Each by its name, and British ones are read to by British rules; those of other languages are not."""
    voices = opened_voices(VoiceSettings(path=str(folder)))

    assert {name: voice.british for name, voice in voices.items()} == {"af_heart": False, "bm_george": True}


def test_a_piece_is_said_in_the_style_of_its_length(folder: Path) -> None:
    """Ids of the known signs between two pads, the style's row for so many signs, and the pace."""
    voice = opened_voices(VoiceSettings(path=str(folder)))["af_heart"]

    said = voice.say("a☃b.", 2.0)
    assert said == pytest.approx(np.array([0, 43, 44, 4, 0]) * 0.003 / 2)


def test_single_files_of_voices_are_read(tmp_path: Path) -> None:
    """The other form: `onnx/model.onnx` with `input_ids`, and raw numbers in `voices/NAME.bin`."""
    for name in ("onnx", "voices"):
        (tmp_path / name).mkdir()
    tiny_onnx.kokoro(tmp_path / "onnx" / "model.onnx", tokens="input_ids")
    (tmp_path / "voices" / "bf_emma.bin").write_bytes(STYLES.tobytes())
    (voice,) = opened_voices(VoiceSettings(path=str(tmp_path))).values()

    assert (voice.name, voice.british, voice.paces) == ("bf_emma", True, (0.5, 2.0))
    assert voice.say("a", 1.0) == pytest.approx([0, 0.043, 0])


def test_an_export_that_counts_whole_paces_keeps_its_own(tmp_path: Path) -> None:
    """Its speed is changed afterwards: a pace of 1.5 would be 1."""
    tiny_onnx.kokoro(tmp_path / "model.onnx", pace=tiny_onnx.INT32)
    np.savez(tmp_path / "voices.npz", af_heart=STYLES)
    (voice,) = opened_voices(VoiceSettings(path=str(tmp_path / "model.onnx"))).values()

    assert voice.paces == (1.0, 1.0)
    assert voice.say("a", 1.0) == pytest.approx([0, 0.043, 0])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"PK\3\4 cut off", "does not hold Kokoro's voices"),
        (b"\0" * 1000, "does not hold Kokoro's voices"),
        (np.full(256, np.nan, "<f4").tobytes(), "no styles"),
        (b"", "no styles"),
    ],
)
def test_damaged_voices_are_named(tmp_path: Path, content: bytes, why: str) -> None:
    """The file and what is wrong with it, when the model is opened."""
    tiny_onnx.kokoro(tmp_path / "model.onnx")
    (tmp_path / "voices-v1.0.bin").write_bytes(content)

    with pytest.raises(EngineFailed, match=rf"voices-v1\.0\.bin .*{why}"):
        opened(tmp_path)


def test_pickles_are_not_unpacked(tmp_path: Path) -> None:
    """An archive of objects would run what it brings."""
    tiny_onnx.kokoro(tmp_path / "model.onnx")
    np.savez(tmp_path / "voices.npz", af_heart=np.array([{"a": 1}], dtype=object))

    with pytest.raises(EngineFailed, match="allow_pickle"):
        opened(tmp_path)


def test_a_model_without_a_voice_says_what_to_add(tmp_path: Path) -> None:
    """And where to put it; so does one whose voices all speak other languages."""
    tiny_onnx.kokoro(tmp_path / "model.onnx")
    with pytest.raises(EngineFailed, match=r"voices-v1\.0\.bin"):
        opened(tmp_path)
    np.savez(tmp_path / "voices.npz", jf_alpha=STYLES)
    with pytest.raises(EngineFailed, match="no English voice"):
        opened(tmp_path)


def test_two_models_of_one_voice_are_refused(folder: Path) -> None:
    """Rather than one of them at random; named itself, either is opened."""
    tiny_onnx.kokoro(folder / "kokoro-v1.0.int8.onnx")

    with pytest.raises(EngineFailed, match="name the file itself"):
        opened(folder)
    assert "af_heart" in opened(folder / "kokoro-v1.0.onnx")


def test_other_networks_are_no_voices(tmp_path: Path) -> None:
    """A folder, or a file, that has none says which there could be."""
    given: tiny_onnx.Tensors = {"x": (tiny_onnx.FLOAT, (1,))}
    write = [tiny_onnx.node("Neg", ["x"], "y")]
    tiny_onnx.write(tmp_path / "other.onnx", write, given, {"y": (tiny_onnx.FLOAT, (1,))})
    (tmp_path / "text.onnx").write_text("this is no model")

    with pytest.raises(EngineFailed, match="hibari"):
        opened(tmp_path / "other.onnx")
    with pytest.raises(EngineFailed, match=r"text\.onnx is no ONNX model"):
        opened(tmp_path / "text.onnx")
    with pytest.raises(EngineFailed, match=r"missing\.onnx"):
        opened(tmp_path / "missing.onnx")
