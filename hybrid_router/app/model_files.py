"""The files that a local model is made of, and how its engine is told to open them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

from msgspec import Struct

from hybrid_router.config.local_schema import (
    ClassifierModel,
    EncoderModel,
    GuardModel,
    LlamaModel,
    LocalModel,
    PainterModel,
    PrefixCache,
    TranslatorModel,
    VoiceModel,
    WhisperModel,
)
from hybrid_router.core.call import Feature, Operation
from hybrid_router.engines.settings import (
    AdapterFile,
    AnySettings,
    ClassifierSettings,
    Drafting,
    EncoderSettings,
    GuardSettings,
    Keeping,
    LlamaSettings,
    Offload,
    PainterSettings,
    TranslatorSettings,
    VoiceSettings,
    WhisperSettings,
)
from hybrid_router.models.stamps import Stamp
from hybrid_router.workers.tenant import Terms

PREFIXES_FOLDER = "prefixes"


class File(Struct, frozen=True):
    """A verified file, or a folder of them, and what tells it from every other.

    Attributes:
        sha256: of the file, or of the list of a folder's files.
        stamps: each file as it was when it was verified.
    """

    path: Path
    sha256: str = ""
    stamps: tuple[Stamp, ...] = ()

    @property
    def identity(self) -> tuple[object, ...]:
        """What changes when the file does; not when it is only linked elsewhere."""
        if not self.stamps:
            return (self.path,)
        kept = ((each.device, each.inode, each.size_bytes, each.mtime_ns) for each in self.stamps)
        return (self.sha256, *kept)


class ModelFiles(Struct, frozen=True, kw_only=True):
    """A model's weights, and what is loaded beside them: adapters by name."""

    weights: File
    draft: File | None = None
    projector: File | None = None
    adapters: tuple[tuple[str, File], ...] = ()

    @property
    def identity(self) -> tuple[object, ...]:
        """What changes when any of them does."""
        return tuple(None if file is None else file.identity for file in self._all)

    @property
    def stamps(self) -> frozenset[Stamp]:
        """All files as they were when they were verified."""
        return frozenset(stamp for file in self._all if file is not None for stamp in file.stamps)

    @property
    def _all(self) -> tuple[File | None, ...]:
        return (self.weights, self.draft, self.projector, *(file for _, file in self.adapters))


_NO_FILE = File(Path())
_SIZES = ("context", "parallel")  # keys of which lower values take less memory
_NO_FILES = ModelFiles(weights=_NO_FILE)


def gathered(model: str, chosen: LocalModel, verified: Callable[[str], File]) -> ModelFiles:
    """Every file of a model by its entry of the manifest; a draft model only where something is drafted.

    Raises:
        ModelFileError: whatever `verified` raises.
    """
    weights = verified(chosen.weights or model)
    if not isinstance(chosen, LlamaModel):
        return ModelFiles(weights=weights)
    drafting = chosen.drafting
    return ModelFiles(
        weights=weights,
        draft=verified(drafting.weights) if drafting.weights and drafting.tokens else None,
        projector=verified(chosen.projector) if chosen.projector else None,
        adapters=tuple((name, verified(adapter.weights)) for name, adapter in chosen.adapters.items()),
    )


def operations(chosen: LocalModel) -> frozenset[Operation]:
    """What a model can be asked, whether its files are there or not."""
    return settings(_NO_FILES, chosen, None).operations


def terms(chosen: LocalModel) -> Terms:
    """How a model stays in memory."""
    sizes = tuple(key for key in _SIZES if key in type(chosen).__struct_fields__)
    return Terms(pinned=chosen.pinned, idle_s=chosen.idle, memory_bytes=chosen.memory, sizes=sizes)


def features(chosen: LocalModel) -> frozenset[Feature]:
    """What a model is hoped to be able to do beyond text."""
    projector = isinstance(chosen, LlamaModel) and chosen.projector is not None
    adapters = tuple((name, _NO_FILE) for name in chosen.adapters) if isinstance(chosen, LlamaModel) else ()
    files = ModelFiles(weights=_NO_FILE, projector=_NO_FILE if projector else None, adapters=adapters)
    return settings(files, chosen, None).hoped_for


def settings(files: ModelFiles, chosen: LocalModel, state_folder: Path | None) -> AnySettings:
    """How the engine opens a model.  Without a state folder nothing is kept on disk."""
    shared = Shared(
        path=_absolute(files.weights) or "",
        threads=chosen.threads or len(os.sched_getaffinity(0)),
        sha256=files.weights.sha256,
    )
    if isinstance(chosen, LlamaModel):
        return _llama(files, chosen, state_folder, shared)
    return _built(chosen, shared)


class Shared(TypedDict):
    """What all engines are told."""

    path: str
    threads: int
    sha256: str


@functools.singledispatch
def _built(chosen: LocalModel, shared: Shared) -> AnySettings:
    """By the engine."""
    raise TypeError(type(chosen))


@_built.register
def _(chosen: WhisperModel, shared: Shared) -> WhisperSettings:
    return WhisperSettings(
        **shared,
        parallel=None,
        device=chosen.device,
        compute_type=chosen.compute_type,
        beam_size=chosen.beam_size,
        voice_only=chosen.voice_only,
        longest_s=chosen.longest,
    )


@_built.register
def _(chosen: EncoderModel, shared: Shared) -> EncoderSettings:
    return EncoderSettings(
        **shared,
        parallel=None,
        purpose=chosen.purpose,
        device=chosen.device,
        context=chosen.context,
        batch_tokens=chosen.batch_tokens,
        query_prompt=chosen.query_prompt,
        document_prompt=chosen.document_prompt,
    )


@_built.register
def _(chosen: VoiceModel, shared: Shared) -> VoiceSettings:
    return VoiceSettings(**shared, voice=chosen.voice or "", voices=tuple(chosen.voices.items()))


@_built.register
def _(chosen: PainterModel, shared: Shared) -> PainterSettings:
    return PainterSettings(
        **shared,
        device=chosen.device,
        dtype=chosen.dtype,
        steps=chosen.steps,
        guidance=chosen.guidance,
        most_pixels=chosen.most_pixels,
        most_steps=chosen.most_steps,
    )


@_built.register
def _(chosen: ClassifierModel, shared: Shared) -> ClassifierSettings:
    return ClassifierSettings(**shared, device=chosen.device)


@_built.register
def _(chosen: TranslatorModel, shared: Shared) -> TranslatorSettings:
    return TranslatorSettings(
        **shared,
        device=chosen.device,
        compute_type=chosen.compute_type,
        beam_size=chosen.beam_size,
        source=chosen.source,
        target=chosen.target,
    )


@_built.register
def _(chosen: GuardModel, shared: Shared) -> GuardSettings:
    return GuardSettings(**shared, device=chosen.device, threshold=chosen.threshold)


def _llama(files: ModelFiles, chosen: LlamaModel, state_folder: Path | None, shared: Shared) -> LlamaSettings:
    return LlamaSettings(
        **shared,
        context=chosen.context,
        parallel=_decided(chosen.parallel),
        prefill_chunk=chosen.prefill_chunk,
        busy_wait=chosen.busy_wait,
        purpose=chosen.purpose,
        offload=Offload(
            layers=_decided(chosen.gpu_layers),
            split=chosen.split_mode,
            main=chosen.main_gpu,
            shares=chosen.tensor_split,
        ),
        flash_attention=chosen.flash_attention,
        key_type=chosen.cache_type_k,
        value_type=chosen.cache_type_v,
        keeping=_keeping(chosen.prefix_cache, state_folder),
        drafting=Drafting(most_tokens=chosen.drafting.tokens, model_path=_absolute(files.draft)),
        adapters=tuple(
            AdapterFile(name, _absolute(file) or "", chosen.adapters[name].scale)
            for name, file in files.adapters
        ),
        projector_path=_absolute(files.projector),
    )


def _keeping(written: PrefixCache, state_folder: Path | None) -> Keeping:
    on_disk = written.disk != "off" and state_folder is not None
    return Keeping(
        ram_bytes=0 if written.ram == "off" else written.ram,
        folder=str(state_folder / PREFIXES_FOLDER) if on_disk and state_folder is not None else None,
        disk_bytes=written.disk if on_disk and written.disk != "off" else 0,
        everyone=written.share_prefix == "everyone",
    )


def _decided(written: int | str) -> int | None:
    """A number; None: the engine decides."""
    return written if isinstance(written, int) else None


def _absolute(file: File | None) -> str | None:
    """Where a file is, without `..`; its own name stays, for engines that go by it."""
    return None if file is None else str(file.path.parent.resolve() / file.path.name)
