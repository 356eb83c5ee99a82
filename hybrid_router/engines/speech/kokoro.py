"""Kokoro's voices: one network for all, and a file of styles.

Source: Kokoro-82M as exported to ONNX by thewh1teagle (`tokens`, one `voices-*.bin`, which is numpy's npz)
and by onnx-community (`input_ids`, a raw `voices/*.bin` for each voice).
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime

from hybrid_router.engines.sound.encode import Floats
from hybrid_router.engines.speech.hibari_voice import phoneme_ids
from hybrid_router.engines.speech.kokoro_names import is_british, is_english
from hybrid_router.engines.speech.voice import inputs
from hybrid_router.engines.task import EngineFailed

_TOKENS = ("tokens", "input_ids")
INPUTS = tuple(frozenset({tokens, "style", "speed"}) for tokens in _TOKENS)
_STYLE_WIDTH = 256
_FLOAT_BYTES = 4
_MOST_FILE_BYTES = 512 * 2**20
_ZIP = b"PK"


class KokoroVoice:
    """See `engines.speech.voice.Voice`.  `styles`: (phonemes, 256), one for each length of a piece.

    A piece could have 509 phonemes; a shorter one is heard sooner, and its end is nearer for a cancellation.
    """

    most_phonemes = 200

    def __init__(self, name: str, network: onnxruntime.InferenceSession, styles: Floats) -> None:
        self.name = name
        self.british = is_british(name)
        types = inputs(network)
        self._tokens = next(tokens for tokens in _TOKENS if tokens in types)
        self._float_pace = "float" in types["speed"]
        self.paces = (0.5, 2.0) if self._float_pace else (1.0, 1.0)  # some exports count whole paces
        self._network = network
        self._styles = styles
        self._ids = phoneme_ids()

    def say(self, phonemes: str, pace: float) -> Floats:
        ids = [self._ids[sign] for sign in phonemes if sign in self._ids]
        style = self._styles[min(len(ids), len(self._styles) - 1)]
        given = {
            self._tokens: np.array([[0, *ids, 0]], np.int64),
            "style": style[None, :],
            "speed": np.array([pace], np.float32 if self._float_pace else np.int32),
        }
        said: Floats = np.asarray(self._network.run(None, given)[0], np.float32).reshape(-1)
        return said


def voices(network: onnxruntime.InferenceSession, folder: Path) -> list[KokoroVoice]:
    """Every English voice whose style is in the folder.

    Raises:
        EngineFailed: there is none, or a file is not what its name says.
    """
    files = [*folder.glob("voices*.bin"), *folder.glob("voices*.npz"), *folder.glob("voices/*.bin")]
    found = [
        KokoroVoice(name, network, styles)
        for file in sorted(files)
        for name, styles in _styles(file)
        if is_english(name)
    ]
    if not found:
        raise EngineFailed(
            f"{folder.name} has a Kokoro model but no English voice: "
            "put voices-v1.0.bin, or voices/NAME.bin, beside the model"
        )
    return found


def _styles(file: Path) -> Iterator[tuple[str, Floats]]:
    """Voices of a file: numpy's archive of many, or the numbers of the one it is named for."""
    if file.stat().st_size > _MOST_FILE_BYTES:
        raise EngineFailed(f"{file.name} is too large for Kokoro's voices")
    try:
        with file.open("rb") as opened:  # numpy would leave a damaged one open
            is_archive = opened.read(len(_ZIP)) == _ZIP
            opened.seek(0)
            if is_archive:
                with np.load(opened, allow_pickle=False) as archive:
                    yield from ((name, _checked(archive[name])) for name in archive.files)
            else:
                yield file.stem, _checked(np.frombuffer(opened.read(), "<f4"))
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise EngineFailed(f"{file.name} does not hold Kokoro's voices: {error}") from error


def _checked(styles: Floats) -> Floats:
    """As rows.  Raises ValueError: they are none."""
    rows = np.asarray(styles, np.float32).reshape(-1, _STYLE_WIDTH)
    if not len(rows) or not np.isfinite(rows).all():
        raise ValueError("there are no styles in it")
    return rows
