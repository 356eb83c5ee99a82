"""The voices of a model's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hybrid_router.engines.settings import VoiceSettings
from hybrid_router.engines.speech import hibari_voice, kokoro
from hybrid_router.engines.speech.hibari_voice import HibariVoice
from hybrid_router.engines.speech.voice import Voice, inputs, session
from hybrid_router.engines.task import EngineFailed

_READERS = frozenset({"oov.onnx", "oov_gb.onnx"})  # hibari's, for words that it does not know


def opened_voices(settings: VoiceSettings) -> dict[str, Voice]:
    """Every voice by its name.  What a network is given tells whose it is, not what its file is called.

    Raises:
        EngineFailed: there is none, or a file cannot be used.
    """
    path = Path(settings.path)
    voices = _of_folder(path, settings) if path.is_dir() else _of_file(path, settings.sha256, settings)
    if not voices:
        raise EngineFailed(
            f"{path.name} has no voice that is known here: hibari's .onnx files, or Kokoro's model.onnx with "
            "its voices-v1.0.bin"
        )
    return {voice.name: voice for voice in voices}


def _of_folder(folder: Path, settings: VoiceSettings) -> list[Voice]:
    voices: list[Voice] = []
    for file in _networks(folder):
        for voice in _of_file(file, "", settings):
            if voice.name in {other.name for other in voices}:
                raise EngineFailed(
                    f"{folder.name} has two models for voice {voice.name}: keep one, or name the file itself"
                )
            voices.append(voice)
    return voices


def _networks(folder: Path) -> list[Path]:
    """The folder's, and Kokoro's `onnx/model.onnx` where it has others for other machines beside it."""
    here = sorted(file for file in folder.glob("*.onnx") if file.name not in _READERS)
    return here or [file for file in [folder / "onnx" / "model.onnx"] if file.is_file()]


def _of_file(file: Path, sha256: str, settings: VoiceSettings) -> Sequence[Voice]:
    """A file's voices; none, if it is another kind of network."""
    network = session(file, settings)
    taken = frozenset(inputs(network))
    if taken == hibari_voice.INPUTS:
        return [HibariVoice(file, sha256, network)]
    if taken in kokoro.INPUTS:
        folder = file.parent.parent if file.parent.name == "onnx" else file.parent
        return kokoro.voices(network, folder)
    return []
