"""Taking files of one's own, of packages and of an Ollama store into the models folder."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import msgspec
from msgspec import Struct, field

from hybrid_router.engines.llama import gguf
from hybrid_router.engines.task import EngineFailed
from hybrid_router.models import contents, stamps, writing
from hybrid_router.models.entry import (
    AnySource,
    EngineName,
    Entry,
    FileEntry,
    FolderEntry,
    Listed,
    Name,
    OwnSource,
)
from hybrid_router.models.errors import FileChanged, ModelFileError
from hybrid_router.models.weights import Progress, sha256_of

_CARD_CHARACTERS = 1 << 15

How: TypeAlias = Literal["link", "symlink", "copy"]


class Chosen(Struct, frozen=True, kw_only=True):
    """What whoever adds a model says of it; None: it is told from the files.

    `how`: a hard link (a symlink across file systems), a symlink, or a copy.
    """

    name: str | None = None
    engine: str | None = None
    licence: str | None = None
    how: How = "link"


class Added(Struct, frozen=True, kw_only=True):
    """What was added.  `left`: files that were not taken, and why; `notes`: what else there is to know."""

    name: str
    entry: Entry
    left: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def add_path(manifest_path: Path, origin: Path, chosen: Chosen, progress: Progress | None = None) -> Added:
    """Take a file, or a folder with a model's files.

    Raises:
        ModelFileError: it is refused, there is something else in its place, or nothing can be written.
    """
    if origin.is_dir():
        return _add_folder(manifest_path, origin, chosen, progress)
    if not origin.is_file():
        what = f"{origin} is neither a file nor a folder" if origin.exists() else f"there is no {origin}"
        raise ModelFileError(
            f"{what}: name a model on this machine; to download one, `hybrid-router models pull OWNER/NAME`"
        )
    return add_file(manifest_path, origin, chosen, progress=progress, source=_own(origin))


def add_file(
    manifest_path: Path,
    origin: Path,
    chosen: Chosen,
    *,
    source: AnySource,
    file_name: str | None = None,
    progress: Progress | None = None,
    check: Callable[[FileEntry], None] | None = None,
) -> Added:
    """Take one file.

    `file_name`: what it is called in the models folder; `check` has a last word.
    """
    models_dir = manifest_path.absolute().parent
    target = _inside(origin, models_dir) or models_dir / plain_name(file_name or origin.name)
    name = name_of(chosen.name or Path(file_name or origin.name).stem)
    contents.check_kind(origin, file_name or origin.name, chosen.engine)
    with made_or_undone() as made:
        put(origin, target, chosen.how, made)
        sha256 = sha256_of(target, progress)
        contents.check_file(target, sha256)
        found = contents.engine_of_file(target)
        entry = FileEntry(
            file=target.relative_to(models_dir).as_posix(),
            sha256=sha256,
            size_bytes=target.stat().st_size,
            engine=engine(chosen, found, target.name),
            licence=chosen.licence or licence_of(target) or "unknown",
            source=source,
        )
        if check is not None:
            check(entry)
        keep(manifest_path, {name: entry})
    return Added(name=name, entry=entry)


def _add_folder(manifest_path: Path, origin: Path, chosen: Chosen, progress: Progress | None) -> Added:
    models_dir = manifest_path.absolute().parent
    found = contents.sort(_below(origin), str(origin))
    lone = contents.one_gguf(found.taken, str(origin), "add one of")
    if lone is not None:
        added = add_file(manifest_path, origin / lone, chosen, source=_own(origin / lone), progress=progress)
        return msgspec.structs.replace(added, left={**found.left, **_beside(found.taken, lone)})
    contents.check(origin, found.taken)
    opened_by = engine(chosen, contents.engine_of(origin, found.taken), origin.name)
    name = name_of(chosen.name or origin.name)
    folder = _inside(origin, models_dir) or models_dir / plain_name(name)
    if folder == origin.absolute() and found.left:
        stray = next(iter(found.left))
        raise ModelFileError(f"{origin} also holds {stray} ({found.left[stray]}): move it elsewhere first")
    with made_or_undone() as made:
        entry = _listed(origin, folder, found.taken, how=chosen.how, made=made, progress=progress)
        entry = msgspec.structs.replace(
            entry,
            folder=folder.relative_to(models_dir).as_posix(),
            engine=opened_by,
            licence=chosen.licence or licence_of_card(origin / "README.md") or "unknown",
            source=_own(origin),
        )
        keep(manifest_path, {name: entry})
    return Added(name=name, entry=entry, left=found.left)


def _listed(
    origin: Path,
    folder: Path,
    paths: Iterable[str],
    *,
    how: How,
    made: list[Path],
    progress: Progress | None,
) -> FolderEntry:
    """Every file put into its place and read."""
    files, read_bytes = {}, 0
    for path in paths:
        target = folder / path
        put(origin / path, target, how, made)
        told = progress and _shifted(progress, read_bytes)
        files[path] = Listed(sha256=sha256_of(target, told), size_bytes=target.stat().st_size)
        read_bytes += files[path].size_bytes
    return FolderEntry(folder=folder.name, files=files, engine="llama")


def _shifted(progress: Progress, by_bytes: int) -> Callable[[int], object]:
    return lambda read_bytes: progress(by_bytes + read_bytes)


def keep(manifest_path: Path, entries: dict[str, Entry]) -> None:
    """Write entries whose files were just read, and remember that they were."""
    models_dir = manifest_path.absolute().parent
    seen = {
        item.path: stamps.stamp_of((models_dir / item.path).stat(), item.sha256)
        for entry in entries.values()
        for item in entry.items
    }
    writing.add(manifest_path, entries)
    stamps.remember(models_dir, seen)


@contextlib.contextmanager
def made_or_undone() -> Iterator[list[Path]]:
    """Takes away again what was brought, if the rest fails."""
    made: list[Path] = []
    try:
        yield made
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
        for folder in sorted({path.parent for path in made}, reverse=True):
            with contextlib.suppress(OSError):  # not empty: it was there before
                folder.rmdir()
        raise


def put(origin: Path, target: Path, how: How, made: list[Path]) -> None:
    """Bring one file to its place, and note it in `made`; nothing where it is there already.

    Raises:
        FileChanged: another file is in its place.
        ModelFileError: the folder cannot be written, or is full.
    """
    if target.exists() and target.samefile(origin):
        return
    if os.path.lexists(target):
        raise FileChanged(f"{target} is there already: choose another name (--name), or move it elsewhere")
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _bring(origin, fresh, how)
        fresh.rename(target)
    except OSError as e:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise ModelFileError(
            f"{origin.name} cannot be brought into the models folder: {e.strerror}; nothing was changed",
            detail=f"{origin} → {target}",
        ) from e
    made.append(target)


def _bring(origin: Path, fresh: Path, how: How) -> None:
    if how == "copy":
        shutil.copyfile(origin, fresh)
        return
    if how == "link":
        with contextlib.suppress(OSError):  # another file system, or one without hard links
            fresh.hardlink_to(origin.resolve())
            return
    fresh.symlink_to(origin.resolve())


def name_of(text: str) -> str:
    """A name for an entry, made from a file's or a repository's.

    Raises:
        ModelFileError: nothing of it can be in a name.
    """
    name = re.sub(r"[^A-Za-z0-9._:@-]+", "-", text).strip("-.").lower()[:128]
    try:
        return msgspec.convert(name, Name)
    except msgspec.ValidationError:
        raise ModelFileError(f"{text!r} is no name: letters, digits and . _ : @ -, 128 at most") from None


def plain_name(text: str) -> str:
    """A file's name that a manifest can hold."""
    return re.sub(r"[^A-Za-z0-9_.@+ -]+", "-", text).lstrip(".-+@ ") or "model"


def licence_of(path: Path) -> str | None:
    """What a GGUF says of its licence."""
    try:
        metadata = gguf.read(path).metadata
    except EngineFailed:
        return None
    for key in ("general.license", "general.license.name"):
        value = metadata.get(key)
        if isinstance(value, str) and value.isprintable() and value:
            return value[:100]
    return None


def licence_of_card(path: Path) -> str | None:
    """What a model card says of the licence, in the lines between `---` at its beginning."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            head = file.read(_CARD_CHARACTERS)
    except OSError:
        return None
    front = re.match(r"---\n(.*?)\n---\n", head, re.DOTALL)
    found = front and re.search(r"^license: *([A-Za-z0-9._-]+) *$", front[1], re.MULTILINE)
    return found[1] if found else None


def engine(chosen: Chosen, guessed: str, shown: str) -> EngineName:
    """The engine that was asked for, or else what its files look like.

    Raises:
        ModelFileError: neither.
    """
    wanted = chosen.engine or guessed
    known: tuple[EngineName, ...] = get_args(EngineName)
    for each in known:
        if each == wanted:
            return each
    raise ModelFileError(
        f"it cannot be told from {shown} which engine opens it: say so with --engine ({', '.join(known)})"
    )


def _below(folder: Path) -> list[str]:
    """Every file below a folder."""
    return [
        (Path(root) / name).relative_to(folder).as_posix()
        for root, _, files in os.walk(folder)
        for name in files
    ]


def _beside(paths: Iterable[str], taken: str) -> dict[str, str]:
    return {path: "not part of the GGUF" for path in paths if path != taken}


def _inside(origin: Path, models_dir: Path) -> Path | None:
    """Where it is, if that is in the models folder already."""
    absolute = origin.absolute()
    return absolute if absolute.is_relative_to(models_dir) and absolute != models_dir else None


def _own(origin: Path) -> OwnSource:
    return OwnSource(origin=str(origin.absolute()))
