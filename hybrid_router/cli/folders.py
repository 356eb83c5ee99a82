"""What a model's folder says of it, read without any inference library: its voices, and what it is for."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from hybrid_router.cli.room import Room, local_models
from hybrid_router.config.local_schema import EncoderModel, LocalModel, VoiceModel
from hybrid_router.config.problems import KeyPath, did_you_mean
from hybrid_router.engines.encoders import folder as encoder_folder
from hybrid_router.engines.speech.kokoro_names import is_english
from hybrid_router.engines.task import EngineFailed

Found: TypeAlias = tuple[KeyPath, str]

_READERS = frozenset({"oov.onnx", "oov_gb.onnx"})  # networks of a voice's folder that are no voices
_RANKERS = ("ForSequenceClassification", "ForCausalLM")


def wrong_voices(room: Room) -> Iterator[Found]:
    """Voices that a model does not have, where its folder tells which it has."""
    for path, chosen, folder in _folders(room):
        if isinstance(chosen, VoiceModel) and (known := voices(folder)):
            wanted = [("voice",), *(("voices", name) for name in chosen.voices)]
            for key, voice in zip(wanted, (chosen.voice, *chosen.voices.values()), strict=True):
                if voice is not None and voice not in known:
                    yield (*path, *key), f"{folder.name} has no voice {voice}{did_you_mean(voice, known)}"


def unfit_encoders(room: Room) -> Iterator[Found]:
    """Encoders that their engine will not open, or not for what they are to be asked."""
    for path, chosen, folder in _folders(room):
        if isinstance(chosen, EncoderModel):
            try:
                encoder_folder.check(folder, chosen.purpose)
            except EngineFailed as error:
                yield (*path, "weights"), str(error)


def doubtful_purposes(room: Room) -> Iterator[Found]:
    """Encoders that are to rank and are not said to give scores."""
    for path, chosen, folder in _folders(room):
        if isinstance(chosen, EncoderModel) and chosen.purpose == "rerank":
            made = _architecture(folder)
            if made is not None and not made.endswith(_RANKERS):
                yield (
                    (*path, "purpose"),
                    f"{folder / 'config.json'}: a {made} gives vectors, not scores: is it a cross-encoder?",
                )


def voices(folder: Path) -> tuple[str, ...]:
    """The names of a folder's voices; none where nothing but its networks would tell."""
    networks = {file.name for file in folder.glob("*.onnx")} - _READERS
    listed = _listed(folder / "voices.json")
    if networks and networks <= listed.keys():
        return tuple(sorted(listed[name] for name in networks))
    return _styles(folder) if not listed else ()


def _folders(room: Room) -> Iterator[tuple[KeyPath, LocalModel, Path]]:
    """Local models that are folders and are there in full."""
    for backend, model, chosen in local_models(room.loaded):
        folder = room.places.folder(chosen.weights or model)
        if folder is not None:
            yield ("backends", backend, "models", model), chosen, folder


def _listed(path: Path) -> dict[str, str]:
    """File → voice, of the list that comes with hibari's."""
    try:
        found = json.loads(path.read_bytes())
        return {str(voice["file"]): str(name) for name, voice in found.items()}
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return {}


def _styles(folder: Path) -> tuple[str, ...]:
    """The English voices of one Kokoro network: archives of many, or files of one."""
    names = [file.stem for file in folder.glob("voices/*.bin")]
    for file in (*folder.glob("voices*.bin"), *folder.glob("voices*.npz")):
        try:
            with zipfile.ZipFile(file) as archive:
                names += [Path(name).stem for name in archive.namelist()]
        except (OSError, zipfile.BadZipFile):
            return ()
    return tuple(sorted({name for name in names if is_english(name)}))


def _architecture(folder: Path) -> str | None:
    """What `config.json` says that its model is."""
    try:
        return str(json.loads((folder / "config.json").read_bytes())["architectures"][0])
    except (OSError, ValueError, TypeError, LookupError):
        return None
