"""Hibari's voices: a network that gives a spectrum, and the arithmetic that makes sound of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hibari
import numpy as np
import onnxruntime
from hibari import dsp

from hybrid_router.engines.sound.encode import Floats
from hybrid_router.engines.speech.kokoro_names import is_british

INPUTS = frozenset({"ids", "speed"})
_ASSETS = Path(hibari.__file__).parent / "assets"
_NOISE_SEED = 0  # the same text sounds the same


class HibariVoice:
    """See `engines.speech.voice.Voice`."""

    most_phonemes = 400
    paces = (0.5, 2.0)

    def __init__(self, path: Path, sha256: str, network: onnxruntime.InferenceSession) -> None:
        """`sha256` of the file, if it is known: a voice is known by it under any name."""
        self.name, self.british = _known_as(path, sha256)
        self._network = network
        self._ids = phoneme_ids()

    def say(self, phonemes: str, pace: float) -> Floats:
        ids = [0, *(self._ids[sign] for sign in phonemes if sign in self._ids), 0]
        given = {"ids": np.array([ids], np.int64), "speed": np.array([pace], np.float32)}
        spectrum: list[Any] = [part[0] for part in self._network.run(None, given)]
        said: Floats = dsp.synth(*spectrum, np.random.default_rng(_NOISE_SEED))
        return said


def phoneme_ids() -> Mapping[str, int]:
    """The alphabet, which is Kokoro's."""
    ids: dict[str, int] = json.loads((_ASSETS / "vocab.json").read_text(encoding="utf-8"))
    return ids


def _known_as(path: Path, sha256: str) -> tuple[str, bool]:
    """A voice's name, and whether it is British: as hibari lists it, else from the file's name."""
    listed = json.loads((_ASSETS / "voices.json").read_text(encoding="utf-8"))
    for name, voice in listed.items():
        if path.name == voice["file"] or sha256 == voice["sha256"]:
            return name, bool(voice["british"])
    name = path.name.partition(".")[0]
    return name, is_british(name)
