"""Downloading a model: what was fetched is kept, whatever happens, and nothing wrong is ever listed."""

from __future__ import annotations

import asyncio
import errno
import fnmatch
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import aiohttp
import msgspec
from msgspec import Struct

from hybrid_router.models import adding, contents, manifest
from hybrid_router.models.adding import Added, Chosen
from hybrid_router.models.entry import Entry, FileEntry, FolderEntry, HubSource, Listed
from hybrid_router.models.errors import FileChanged, ModelFileError
from hybrid_router.models.hub import Hub, HubBroke, HubFailed, Remote, Repo, open_hub

_MOST_ATTEMPTS = 5
_PAUSE_S, _LONGEST_PAUSE_S = 0.4, 10.0
_BLOCK_BYTES = 1 << 20
_ROOM_BYTES = 64 << 20  # left on the disk for everybody else
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)\Z")
_FOLDER_ENDING = ".part"

_MOST_NAMED = 20  # files of a repository, for people to choose among
KEPT = "what was fetched is kept: pull again, and it goes on from there"

Told = Callable[[str, int, int], object]


class Wanted(Struct, frozen=True, kw_only=True):
    """What is to be pulled.

    `patterns` choose files as a shell does; without any all that engines read.  `pause_s`: before a broken
    connection is tried again, doubled each time.
    """

    repo: str
    revision: str | None = None
    patterns: tuple[str, ...] = ()
    pause_s: float = _PAUSE_S


async def pull(
    manifest_path: Path, wanted: Wanted, chosen: Chosen, told: Told, environ: Mapping[str, str] = os.environ
) -> Added:
    """Fetch a repository's model, check every byte of it, and list it.

    What was fetched before an error or Ctrl+C stays in `<name>.part` beside the models, and the next pull
    goes on from there.

    Args:
        told: called with a file's name, the bytes that are there, and how many it has.

    Raises:
        ModelFileError: it is refused, the hub cannot be reached or says something else than before, the
            disk is full, or the name is taken.
    """
    async with open_hub(environ) as hub:
        repo = await hub.repo(wanted.repo, wanted.revision)
        found, files = _choose(repo, wanted)
        name = adding.name_of(chosen.name or _usual_name(repo, files))
        _check_free(manifest_path, name, files)
        pulling = _Pulling(hub, repo, manifest_path.parent / f"{name}{_FOLDER_ENDING}", told, wanted.pause_s)
        pulling.check_room(files)
        digests = await pulling.fetch_all(files)
    source = HubSource(repo=repo.name, revision=repo.commit, hub=hub.address)
    licence = chosen.licence or repo.licence
    listed = msgspec.structs.replace(chosen, name=name, licence=licence)
    entry = _settled(manifest_path, pulling.folder, files, digests, chosen=listed, source=source)
    return Added(name=name, entry=entry, left=found.left, notes=(f"pinned to commit {repo.commit}",))


def _choose(repo: Repo, wanted: Wanted) -> tuple[contents.Sorted, list[Remote]]:
    """The files to fetch."""
    patterns = wanted.patterns
    matching = [
        file
        for file in repo.files
        if not patterns or any(fnmatch.fnmatchcase(file.path, pattern) for pattern in patterns)
    ]
    if not matching:
        there = contents.few((file.path for file in repo.files), _MOST_NAMED)
        raise ModelFileError(f"no file of {repo.name} fits {' '.join(patterns)}; there are: {there}")
    found = contents.sort((file.path for file in matching), repo.name)
    gguf = contents.one_gguf(found.taken, repo.name, "choose one with --file:")
    taken = {gguf} if gguf else set(found.taken)
    return found, [file for file in matching if file.path in taken]


def _usual_name(repo: Repo, files: list[Remote]) -> str:
    if len(files) == 1 and files[0].path.endswith(".gguf"):
        return Path(files[0].path).stem
    return repo.name.rpartition("/")[2]


def _check_free(manifest_path: Path, name: str, files: list[Remote]) -> None:
    """Refuse before gigabytes are fetched what could not be listed after."""
    known = manifest.read(manifest_path) if manifest_path.exists() else {}
    if name in known:
        raise ModelFileError(
            f"models/manifest.yaml has a model {name!r} already: "
            f"choose another name (--name), or `hybrid-router models rm {name}` first"
        )
    target = manifest_path.absolute().parent / _place(name, files)
    if os.path.lexists(target):
        raise FileChanged(f"{target} is there already: choose another name (--name), or move it elsewhere")


def _place(name: str, files: list[Remote]) -> str:
    """Where the model will lie, below the models folder."""
    if len(files) == 1 and files[0].path.endswith(".gguf"):
        return adding.plain_name(Path(files[0].path).name)
    return adding.plain_name(name)


class _Pulling:
    """Fetches files into `folder`.  One that is not whole has its content's digest behind its own name."""

    def __init__(self, hub: Hub, repo: Repo, folder: Path, told: Told, pause_s: float) -> None:
        self._pause_s = pause_s
        self._hub = hub
        self._repo = repo
        self._told = told
        self.folder = folder

    def check_room(self, files: list[Remote]) -> None:
        """Refuse what the disk has no room for."""
        there = sum(_size(path) for file in files for path in (self._whole(file), self._part(file)))
        needed = sum(file.size_bytes for file in files) - there
        free = shutil.disk_usage(self.folder.parent).free
        if needed + _ROOM_BYTES > free:
            raise _full(f"{needed / 1e9:.1f} GB more are needed, {free / 1e9:.1f} GB are free")

    async def fetch_all(self, files: list[Remote]) -> dict[str, str]:
        """Each file's SHA-256.  What may speak against the model is fetched first, and looked at."""
        small = [file for file in files if file.path.endswith(".json")]
        digests = {file.path: await self.fetch(file) for file in small}
        contents.check(self.folder, digests)
        return digests | {file.path: await self.fetch(file) for file in files if file not in small}

    async def fetch(self, file: Remote) -> str:
        """Have one file whole; its SHA-256."""
        whole = self._whole(file)
        if _size(whole) == file.size_bytes and whole.is_file():
            digest = _digest(file, whole)
            if digest is not None:
                self._told(file.path, file.size_bytes, file.size_bytes)
                return digest
        part = self._part(file)
        await self._fill(file, part)
        digest = _digest(file, part)
        if digest is None:
            part.unlink()
            raise HubFailed(
                f"{file.path} is not what the hub says it is: it was thrown away, the other files are kept; "
                "pull again"
            )
        part.replace(whole)
        return digest

    async def _fill(self, file: Remote, part: Path) -> None:
        """Go on where it stopped, until all is there.  Attempts that brought something do not count."""
        attempt = 0
        while True:
            before = _size(part)
            try:
                await self._more(file, part)
            except HubBroke as e:
                attempt = attempt + 1 if _size(part) <= before else 0
                if attempt == _MOST_ATTEMPTS:
                    raise HubBroke(f"{e.message}; {KEPT}", detail=e.detail) from e
                await asyncio.sleep(min(self._pause_s * 2**attempt, _LONGEST_PAUSE_S))
            except OSError as e:
                if e.errno == errno.ENOSPC:
                    raise _full(f"{part}: {e.strerror}") from e
                raise ModelFileError(f"{file.path} cannot be written: {e.strerror}", detail=str(part)) from e
            else:
                return

    async def _more(self, file: Remote, part: Path) -> None:
        begun = _begun(part, file)
        if begun == file.size_bytes and begun:
            return
        async with self._hub.content(self._repo, file, begun) as reply:
            begun = _first_byte(reply, begun, file)
            with _opened(part, begun) as out:
                await self._write(reply, out, file)
                out.flush()
                os.fsync(out.fileno())
        if _size(part) < file.size_bytes:
            raise HubBroke(f"the hub sent too little of {file.path}")

    async def _write(self, reply: aiohttp.ClientResponse, out: BinaryIO, file: Remote) -> None:
        at = os.fstat(out.fileno()).st_size
        async for block in reply.content.iter_chunked(_BLOCK_BYTES):
            at += len(block)
            if at > file.size_bytes:
                raise HubFailed(f"the hub sends more of {file.path} than it said")
            out.write(block)
            self._told(file.path, at, file.size_bytes)

    def _whole(self, file: Remote) -> Path:
        return self.folder / file.path

    def _part(self, file: Remote) -> Path:
        """Named by its content: what changed upstream is never put together from two versions."""
        return self.folder / f"{file.path}.{file.oid[:16]}.part"


def _begun(part: Path, file: Remote) -> int:
    """How much is there; what cannot be a beginning is thrown away."""
    part.parent.mkdir(parents=True, exist_ok=True)
    if _size(part) > file.size_bytes:
        part.unlink()
    return _size(part)


def _opened(part: Path, at: int) -> BinaryIO:
    """A file to go on writing at a place."""
    out = part.open("ab")  # made if need be; nothing is cut off by opening
    if os.fstat(out.fileno()).st_size != at:
        out.truncate(at)
    return out


def _first_byte(reply: aiohttp.ClientResponse, asked: int, file: Remote) -> int:
    """Where the reply begins."""
    if reply.status == 200:  # noqa: PLR2004  # it does not do ranges: from the beginning
        return 0
    found = _RANGE.match(reply.headers.get("Content-Range", ""))
    if reply.status != 206 or found is None or int(found[1]) != asked or int(found[3]) != file.size_bytes:  # noqa: PLR2004
        raise HubFailed(
            f"the hub's {file.path} is another now than its list says: pull again",
            detail=f"status {reply.status}, Content-Range {reply.headers.get('Content-Range', 'missing')}",
        )
    return asked


def _digest(file: Remote, path: Path) -> str | None:
    """The SHA-256 of a file that is what the hub says; None if it is something else."""
    sha256 = hashlib.sha256()
    # git's own name of a small file: what it is made of is public, so nothing hangs on SHA-1's strength
    # beyond what the hub itself trusts it for.
    sha1 = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as content:
        while block := content.read(_BLOCK_BYTES):
            sha256.update(block)
            if not file.is_large:
                sha1.update(block)
    found = sha256.hexdigest() if file.is_large else sha1.hexdigest()
    return sha256.hexdigest() if found == file.oid and path.stat().st_size == file.size_bytes else None


def _settled(
    manifest_path: Path,
    folder: Path,
    files: list[Remote],
    digests: dict[str, str],
    *,
    chosen: Chosen,
    source: HubSource,
) -> Entry:
    """The files moved to their place and listed.  `folder` is gone after that."""
    models_dir = manifest_path.absolute().parent
    name = chosen.name or ""
    place = _place(name, files)
    entry: Entry
    if place.endswith(".gguf") and len(files) == 1:
        origin = folder / files[0].path
        entry = FileEntry(
            file=place,
            sha256=digests[files[0].path],
            size_bytes=files[0].size_bytes,
            engine=adding.engine(chosen, contents.engine_of_file(origin), place),
            licence=chosen.licence or adding.licence_of(origin) or "unknown",
            source=source,
        )
    else:
        origin = folder
        paths = [file.path for file in files]
        contents.check(folder, paths)
        entry = FolderEntry(
            folder=place,
            files={
                file.path: Listed(sha256=digests[file.path], size_bytes=file.size_bytes) for file in files
            },
            engine=adding.engine(chosen, contents.engine_of(folder, paths), source.repo),
            licence=chosen.licence or "unknown",
            source=source,
        )
        _clear(folder, paths)
    origin.rename(models_dir / place)
    try:
        adding.keep(manifest_path, {name: entry})
    except BaseException:
        (models_dir / place).rename(origin)  # where the next pull finds it
        raise
    shutil.rmtree(folder, ignore_errors=True)
    return entry


def _clear(folder: Path, paths: list[str]) -> None:
    """Take out parts of versions that nobody wants any more."""
    listed = {folder / path for path in paths}
    for path in [path for path in folder.rglob("*") if path.is_file() and path not in listed]:
        path.unlink()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _full(detail: str) -> ModelFileError:
    return ModelFileError(
        f"the disk is full: make room first; {KEPT}",
        detail=detail,
    )
