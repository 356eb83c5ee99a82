"""The files that a local model is made of, and how its engine is told to open them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from hybrid_router.config import schema
from hybrid_router.engines.task import AdapterFile, Drafting, Keeping, Offload, Settings
from hybrid_router.models.stamps import Stamp

PREFIXES_FOLDER = "prefixes"


class File(Struct, frozen=True):
    """A verified file, and what tells it from every other."""

    path: Path
    stamp: Stamp | None = None

    @property
    def identity(self) -> tuple[object, ...]:
        """What changes when the file does; not when it is only linked elsewhere."""
        stamp = self.stamp
        if stamp is None:
            return (self.path,)
        return (stamp.sha256, stamp.device, stamp.inode, stamp.size_bytes, stamp.mtime_ns)


class ModelFiles(Struct, frozen=True, kw_only=True):
    """A model's weights, and what is loaded beside them: adapters by name."""

    weights: File
    draft: File | None = None
    projector: File | None = None
    adapters: tuple[tuple[str, File], ...] = ()

    @property
    def identity(self) -> tuple[object, ...]:
        """What changes when any of them does."""
        beside = (self.draft, self.projector, *(file for _, file in self.adapters))
        return (self.weights.identity, *(None if file is None else file.identity for file in beside))


def gathered(model: str, chosen: schema.LocalModel, verified: Callable[[str], File]) -> ModelFiles:
    """Every file of a model by its entry of the manifest; a draft model only where something is drafted.

    Raises:
        ModelFileError: whatever `verified` raises.
    """
    drafting = chosen.drafting
    return ModelFiles(
        weights=verified(chosen.weights or model),
        draft=verified(drafting.weights) if drafting.weights and drafting.tokens else None,
        projector=verified(chosen.projector) if chosen.projector else None,
        adapters=tuple((name, verified(adapter.weights)) for name, adapter in chosen.adapters.items()),
    )


def settings(files: ModelFiles, chosen: schema.LocalModel, state_folder: Path | None) -> Settings:
    """How the engine opens a model.  Without a state folder nothing is kept on disk."""
    return Settings(
        path=_absolute(files.weights) or "",
        context=chosen.context,
        parallel=_decided(chosen.parallel),
        threads=chosen.threads or len(os.sched_getaffinity(0)),
        prefill_chunk=chosen.prefill_chunk,
        busy_wait=chosen.busy_wait,
        sha256="" if files.weights.stamp is None else files.weights.stamp.sha256,
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


def _keeping(written: schema.PrefixCache, state_folder: Path | None) -> Keeping:
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
    return None if file is None else str(file.path.absolute())
