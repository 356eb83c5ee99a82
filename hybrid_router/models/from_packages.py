"""Entries for what installed Python packages bring, without being told what that is."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath

import msgspec
from msgspec import Struct

from hybrid_router.models import adding, contents, manifest, placement
from hybrid_router.models.adding import Added, Chosen
from hybrid_router.models.entry import Entry, FileEntry, FolderEntry, Listed, Source, packages
from hybrid_router.models.errors import FileChanged, FileMissing, ModelFileError
from hybrid_router.models.weights import Progress, joined_sha256

_PART = re.compile(r"(.+)\.part-?(\d+)\Z")
_ROOTS = ("model_index.json", "modules.json", "config.json")


class _Brought(Struct, frozen=True, kw_only=True):
    """A file that packages bring, whole or in parts."""

    sources: tuple[Source, ...]
    origins: tuple[Path, ...]

    @property
    def size_bytes(self) -> int:
        return sum(origin.stat().st_size for origin in self.origins)


def add(
    manifest_path: Path, distributions: Sequence[str], chosen: Chosen, progress: Progress | None = None
) -> Added:
    """Place what packages bring; where the manifest lists it already, that entry.

    Raises:
        ModelFileError: one is not installed, brings no model, or it is refused.
    """
    known = _known(manifest_path, distributions)
    if known is not None:
        name, entry = known
        placement.place(name, entry, manifest_path.absolute().parent, progress=progress)
        return Added(name=name, entry=entry, notes=("the manifest lists it already; its files are in place",))
    brought = _brought(distributions)
    gguf = contents.one_gguf(brought, " ".join(distributions), "a package for each is needed:")
    if gguf is not None:
        return _file(manifest_path, brought[gguf], PurePosixPath(gguf).name, chosen, progress)
    return _folder(manifest_path, brought, chosen, distributions[0], progress)


def _known(manifest_path: Path, distributions: Sequence[str]) -> tuple[str, Entry] | None:
    entries = manifest.read(manifest_path) if manifest_path.exists() else {}
    wanted = {_plain(each) for each in distributions}
    for name, entry in entries.items():
        if wanted and wanted <= {_plain(package.partition("==")[0]) for package in packages(entry)}:
            return name, entry
    return None


def _plain(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _brought(distributions: Sequence[str]) -> dict[str, _Brought]:
    """Every file that is not the package's own code, by its path; parts by the path of the whole."""
    parts: dict[str, dict[int, tuple[Source, Path]]] = {}
    for distribution in distributions:
        for source, origin in _files(distribution):
            named = _PART.match(source.path)
            # Parts lie in packages of different names, so only their own name says what they are parts of.
            whole = PurePosixPath(named[1]).name if named else source.path
            parts.setdefault(whole, {})[int(named[2]) if named else 0] = (source, origin)
    ordered = {whole: [found[number] for number in sorted(found)] for whole, found in parts.items()}
    return {
        whole: _Brought(sources=tuple(s for s, _ in found), origins=tuple(o for _, o in found))
        for whole, found in ordered.items()
    }


def _files(distribution: str) -> list[tuple[Source, Path]]:
    try:
        found = metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        raise FileMissing(
            f"the package {distribution} is not installed: pip install --no-deps {distribution}"
        ) from None
    package = f"{found.metadata['Name']}=={found.version}"
    listed = []
    for file in found.files or ():
        origin = Path(str(file.locate()))
        own = file.suffix in {".py", ".pyc"} or ".dist-info" in file.parts[0] or file.parts[0] == ".."
        if not own and origin.is_file():
            listed.append((Source(package=package, path=file.as_posix()), origin))
    return listed


def _file(
    manifest_path: Path, brought: _Brought, file_name: str, chosen: Chosen, progress: Progress | None
) -> Added:
    models_dir = manifest_path.absolute().parent
    name = adding.name_of(chosen.name or PurePosixPath(file_name).stem)
    whole = len(brought.sources) == 1
    entry = FileEntry(
        file=adding.plain_name(file_name),
        sha256=joined_sha256(brought.origins, progress),
        size_bytes=brought.size_bytes,
        source=brought.sources[0] if whole else None,
        parts=() if whole else brought.sources,
    )
    with _placed(name, entry, models_dir, progress):
        target = models_dir / entry.file
        licence = chosen.licence or adding.licence_of(target) or "unknown"
        engine = adding.engine(chosen, contents.engine_of_file(target), file_name)
        entry = msgspec.structs.replace(entry, engine=engine, licence=licence)
        adding.keep(manifest_path, {name: entry})
    return Added(name=name, entry=entry)


def _folder(
    manifest_path: Path,
    brought: dict[str, _Brought],
    chosen: Chosen,
    distribution: str,
    progress: Progress | None,
) -> Added:
    models_dir = manifest_path.absolute().parent
    root, inside = _rooted(brought)
    found = contents.sort(inside, distribution)
    name = adding.name_of(chosen.name or distribution)
    first = inside[_heaviest_of(inside)].sources[0]
    entry = FolderEntry(
        folder=adding.plain_name(name),
        files={path: _listed(inside[path], path, first.package, root, progress) for path in found.taken},
        engine="llama",
        licence=chosen.licence or _licence(inside) or "unknown",
        source=Source(package=first.package, path=root),
    )
    with _placed(name, entry, models_dir, progress):
        folder = models_dir / entry.folder
        contents.check(folder, found.taken)
        engine = adding.engine(chosen, contents.engine_of(folder, found.taken), distribution)
        entry = msgspec.structs.replace(entry, engine=engine)
        adding.keep(manifest_path, {name: entry})
    return Added(name=name, entry=entry, left=found.left)


def _rooted(brought: dict[str, _Brought]) -> tuple[str, dict[str, _Brought]]:
    """The folder that is the model, and what lies below it, by its path there."""
    if not brought:
        raise ModelFileError("the package brings nothing but code")
    heaviest = brought[_heaviest_of(brought)].sources[0].path
    above = [parent.as_posix() for parent in PurePosixPath(heaviest).parents][:-1]
    known = {source.path for each in brought.values() for source in each.sources}
    roots = [folder for folder in above if any(f"{folder}/{name}" in known for name in _ROOTS)]
    root = roots[-1] if roots else (above[0] if above else "")
    if not root:
        raise ModelFileError(f"{heaviest} lies beside other packages, in no folder of its own")
    inside = {}
    for whole, each in brought.items():
        path = each.sources[0].path
        if path.startswith(f"{root}/") or len(each.sources) > 1:
            inside[whole if len(each.sources) > 1 else path.removeprefix(f"{root}/")] = each
    return root, inside


def _licence(inside: dict[str, _Brought]) -> str | None:
    """The weights' own; the package's is that of its code."""
    card = inside.get("README.md")
    return None if card is None else adding.licence_of_card(card.origins[0])


def _heaviest_of(brought: dict[str, _Brought]) -> str:
    return max(brought, key=lambda path: brought[path].size_bytes)


def _listed(brought: _Brought, path: str, package: str, root: str, progress: Progress | None) -> Listed:
    usual = (Source(package=package, path=f"{root}/{path}"),)
    return Listed(
        sha256=joined_sha256(brought.origins, progress),
        size_bytes=brought.size_bytes,
        parts=() if brought.sources == usual else brought.sources,
    )


@contextlib.contextmanager
def _placed(name: str, entry: Entry, models_dir: Path, progress: Progress | None) -> Iterator[None]:
    """The entry's files are in their places, and gone again if the rest fails."""
    with adding.made_or_undone() as made:
        targets = [models_dir / item.path for item in entry.items]
        fresh = [target for target in targets if not os.path.lexists(target)]
        if len(fresh) < len(targets):
            there = next(target for target in targets if target not in fresh)
            raise FileChanged(f"{there} is there already: choose another name (--name), or move it elsewhere")
        made.extend(fresh)
        placement.place(name, entry, models_dir, progress=progress)
        yield
