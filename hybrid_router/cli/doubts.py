"""What is odd in a valid router.yaml: weights without an entry, clouds' models that are gone, a missing GPU.

Doubts, not mistakes: a manifest may be installed later, and a model be newer than the catalogue.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeAlias

from hybrid_router.catalogue.refresh import Unreadable, newer, read
from hybrid_router.catalogue.workers_ai import Catalogue, Model
from hybrid_router.cli.folders import doubtful_purposes
from hybrid_router.cli.room import Room
from hybrid_router.config.backend_schema import LocalBackend
from hybrid_router.config.cloud_schema import WorkersAIBackend
from hybrid_router.config.local_schema import LlamaModel, LocalModel
from hybrid_router.config.problems import KeyPath, Problem, did_you_mean, meant, spelled
from hybrid_router.config.schema import Loaded
from hybrid_router.config.state import state_folder
from hybrid_router.core.space import shown
from hybrid_router.engines.extras import BY_ENGINE
from hybrid_router.models import manifest
from hybrid_router.models.errors import ModelFileError
from hybrid_router.workers.tenant import summed

Doubt: TypeAlias = tuple[KeyPath, str]


def doubts(room: Room) -> tuple[Problem, ...]:
    """All there is to wonder about, in the file's order."""
    loaded = room.loaded
    found = (
        *of_local_models(loaded),
        *of_engines(loaded),
        *of_cloud_models(loaded),
        *of_memory(room),
        *placed(loaded, doubtful_purposes(room)),
    )
    return tuple(sorted(set(found)))


def of_local_models(loaded: Loaded) -> tuple[Problem, ...]:
    """Local models whose weights the manifest does not list, or no manifest at all."""
    return placed(loaded, _weights(loaded))


def of_engines(loaded: Loaded) -> tuple[Problem, ...]:
    """Local models whose engine is not installed."""
    return placed(loaded, _engines(loaded))


def of_cloud_models(loaded: Loaded) -> tuple[Problem, ...]:
    """Models that Workers AI does not have, or no longer."""
    return placed(loaded, _workers_ai(loaded))


def of_memory(room: Room) -> tuple[Problem, ...]:
    """Memory of a GPU that is not there, and models for all of which there is no room at start."""
    return placed(room.loaded, (*_no_gpu(room), *_crowded(room)))


def placed(loaded: Loaded, found: Iterable[Doubt]) -> tuple[Problem, ...]:
    """Each doubt with line and column; what is not written belongs to the nearest thing above it."""
    found_at = []
    for path, message in found:
        near = path
        while near not in loaded.places:
            near = near[:-1]
        found_at.append(Problem(*loaded.places[near], spelled(path), message))
    return tuple(found_at)


def _weights(loaded: Loaded) -> Iterator[Doubt]:
    wanted = {
        ("backends", backend, "models", name, *key): (weights, model.engine)
        for backend, written in loaded.config.backends.items()
        if isinstance(written, LocalBackend)
        for name, model in written.models.items()
        for key, weights in weights_of(name, model)
    }
    if not wanted:
        return
    path = Path(loaded.path).parent / loaded.config.manifest
    try:
        known = manifest.read(path)
    except ModelFileError as error:
        yield ("manifest",), _unreadable(path, error)
        return
    for key, (weights, engine) in wanted.items():
        if weights not in known:
            yield key, f"{path} lists no {weights}{did_you_mean(weights, known)}"
        elif known[weights].engine != engine:
            yield key, f"{path} has {weights} for the engine {known[weights].engine}, not {engine}"


def _engines(loaded: Loaded) -> Iterator[Doubt]:
    for backend, written in loaded.config.backends.items():
        if isinstance(written, LocalBackend):
            for name, model in written.models.items():
                if (lacking := BY_ENGINE[model.engine].missing) is not None:
                    yield ("backends", backend, "models", name, "engine"), lacking


def _no_gpu(room: Room) -> Iterator[Doubt]:
    if ("residency", "vram") in room.loaded.places and not room.gpus:
        yield (
            ("residency", "vram"),
            "no GPU is counted here (NVIDIA's are with nvidia-ml-py): it does nothing",
        )


def _crowded(room: Room) -> Iterator[Doubt]:
    """Models that are to be loaded at start, each of which fits, but not all together."""
    wanted = [guest for guest in room.guests if guest.chosen.preload and guest.why_never is None]
    together = summed(guest.need for guest in wanted)
    lacking = together.beyond(room.given)
    for key, missing, need, given in (
        ("ram", lacking.ram_bytes, together.ram_bytes, room.given.ram_bytes),
        ("vram", lacking.vram_bytes, together.vram_bytes, room.given.vram_bytes),
    ):
        if missing > 0:
            named = ", ".join(guest.step for guest in wanted)
            yield (
                ("residency", key),
                f"{named} are to be loaded at start, need about {shown(need)} and have {shown(given)}, so "
                "they take turns: write preload: false for those that may wait",
            )


def weights_of(name: str, model: LocalModel) -> Iterator[tuple[KeyPath, str]]:
    """Every entry of the manifest that a model names, by the key that does."""
    yield ("weights",), model.weights or name
    if not isinstance(model, LlamaModel):
        return
    if model.drafting.weights is not None:
        yield ("drafting", "weights"), model.drafting.weights
    if model.projector is not None:
        yield ("projector",), model.projector
    for adapter, written in model.adapters.items():
        yield ("adapters", adapter, "weights"), written.weights


def _unreadable(path: Path, error: ModelFileError) -> str:
    if isinstance(error.__cause__, FileNotFoundError):
        return f"there is no {path}, so no local model can run: name the manifest in full"
    first = (error.detail or "").partition("\n")[0]
    return f"{error.message}, so no local model can run: {first}"


def _workers_ai(loaded: Loaded) -> Iterator[Doubt]:
    named, asked = list(_named(loaded)), list(_asked(loaded))
    if not named and not asked:
        return
    refreshed = None
    try:
        refreshed = read(state_folder(loaded, os.environ))
    except Unreadable as error:
        yield ("backends",), str(error)
    known = newer(refreshed)
    for key, model in named:
        wrong = _wrong_with(model, known)
        if wrong is not None:
            yield key, f"{model} {wrong}"
    for key, pattern in asked:
        if not any(fnmatchcase(each.id, pattern) for each in known.models):
            yield key, f"{pattern} {_not_among(known)}{meant(pattern, known.by_id())}"


def _named(loaded: Loaded) -> Iterator[tuple[KeyPath, str]]:
    """Every Workers AI model that the file names; of a backend that lists its own, those."""
    clouds = {
        name: backend
        for name, backend in loaded.config.backends.items()
        if isinstance(backend, WorkersAIBackend)
    }
    for name, backend in clouds.items():
        for index, model in enumerate(backend.models):
            yield ("backends", name, "models", index), model
        helpers = backend.speech_translation
        for key, helper in (("identify", helpers.identify), ("translate", helpers.translate)):
            if helper is not None:
                yield ("backends", name, "speech_translation", key), helper
    for name, alias in loaded.config.aliases.items():
        for index, step in enumerate(alias.try_):
            if step.backend in clouds and not clouds[step.backend].models:
                yield ("aliases", name, "try", index), step.model


def _asked(loaded: Loaded) -> Iterator[tuple[KeyPath, str]]:
    """Every name or pattern of Cloudflare's that apps may ask for; they ask for what is gone too."""
    for pattern in loaded.config.dialects.workers_ai.models:
        if pattern.startswith("@"):
            yield ("dialects", "workers_ai", "models", pattern), pattern


def _wrong_with(model: str, known: Catalogue) -> str | None:
    """What speaks against calling a model, or None."""
    models = known.by_id()
    if model not in models:
        current = [each.id for each in known.models if not each.gone]
        return f"{_not_among(known)}{meant(model, current)}"
    found = models[model]
    successor = _successor(found)
    if found.status == "deprecated":
        since = f" since {found.deprecated_on}" if found.deprecated_on else ""
        return f"is deprecated{since}{successor}"
    return f"is withdrawn{successor}" if found.status == "withdrawn_date_unknown" else None


def _not_among(known: Catalogue) -> str:
    return f"is not among the models of Workers AI (as of {known.dated})"


def _successor(gone: Model) -> str:
    """Who does the work of a model that is gone."""
    if gone.aliased_to:
        return f"; {gone.aliased_to} answers in its place"
    return f": name {gone.successor} in its place" if gone.successor else ""
