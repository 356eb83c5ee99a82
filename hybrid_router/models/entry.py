"""One model of the manifest: a file, or a folder of files, and where they come from."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

# Every part of a path begins with a letter, digit or underscore: no `..`, no root, nothing hidden.
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.@+ -]*"

RelativePath: TypeAlias = Annotated[str, Meta(pattern=rf"^{_PART}(/{_PART})*\Z")]
Name: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}\Z")]
Digest: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Size: TypeAlias = Annotated[int, Meta(gt=0)]
FileSize: TypeAlias = Annotated[int, Meta(ge=0)]
EngineName: TypeAlias = Literal[
    "llama", "whisper", "sentence_transformers", "speech", "images", "classify", "translate", "moderate"
]


class Source(Struct, frozen=True, kw_only=True):
    """A file, or a folder, inside an installed Python package: `package` is `name==version`."""

    package: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.!+]+\Z")]
    path: RelativePath

    @property
    def distribution(self) -> str:
        """The package's name without its version."""
        return self.package.partition("==")[0]


class HubSource(Struct, frozen=True, kw_only=True):
    """A repository of a model hub, at one commit."""

    repo: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?\Z")]
    revision: Annotated[str, Meta(pattern=r"^[0-9a-f]{40}\Z")]
    hub: str = "https://huggingface.co"


class OllamaSource(Struct, frozen=True, kw_only=True):
    """A model of an Ollama store: `name:tag`."""

    ollama: str


class OwnSource(Struct, frozen=True, kw_only=True):
    """A file or folder that its owner brought."""

    origin: str


AnySource: TypeAlias = Source | HubSource | OllamaSource | OwnSource


class Listed(Struct, frozen=True, kw_only=True):
    """One file of a folder.

    `path`: what its package calls it, if that is another name; `parts`: the packages' files that are to be
    joined.
    """

    sha256: Digest
    size_bytes: FileSize
    path: RelativePath | None = None
    parts: tuple[Source, ...] = ()


class Item(Struct, frozen=True, kw_only=True):
    """A file on disk: `path` below the models folder, and the packages' files that it is made of."""

    path: str
    sha256: str
    size_bytes: int
    origins: tuple[Source, ...] = ()


class FileEntry(Struct, frozen=True, kw_only=True):
    """A model of one file; `file` is relative to the models folder.  No `source`: the owner puts it there.

    `optional`: nobody misses it where its package is not installed.
    """

    file: RelativePath
    sha256: Digest
    size_bytes: Size
    engine: EngineName = "llama"
    licence: str = "unknown"
    source: AnySource | None = None
    parts: tuple[Source, ...] = ()
    optional: bool = False

    @property
    def path(self) -> str:
        """Where the model lies, below the models folder."""
        return self.file

    @property
    def digest(self) -> str:
        """What tells this model from every other."""
        return self.sha256

    @property
    def items(self) -> tuple[Item, ...]:
        """Its file."""
        packaged = (self.source,) if isinstance(self.source, Source) else ()
        item = Item(
            path=self.file,
            sha256=self.sha256,
            size_bytes=self.size_bytes,
            origins=self.parts or packaged,
        )
        return (item,)


class FolderEntry(Struct, frozen=True, kw_only=True):
    """A model that is a folder, and every file in it.  A package has them below `source.path`."""

    folder: RelativePath
    files: Annotated[dict[RelativePath, Listed], Meta(min_length=1)]
    engine: EngineName
    licence: str = "unknown"
    source: AnySource | None = None
    optional: bool = False

    @property
    def path(self) -> str:
        """Where the model lies, below the models folder."""
        return self.folder

    @property
    def digest(self) -> str:
        """What tells this model from every other: SHA-256 of its files' digests and names, sorted.

        As `sha256sum` prints them: `cd FOLDER && sha256sum FILES | LC_ALL=C sort -k2 | sha256sum`.
        """
        lines = (f"{listed.sha256}  {path}\n" for path, listed in sorted(self.files.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(listed.size_bytes for listed in self.files.values())

    @property
    def items(self) -> tuple[Item, ...]:
        """Its files."""
        return tuple(
            Item(
                path=f"{self.folder}/{path}",
                sha256=listed.sha256,
                size_bytes=listed.size_bytes,
                origins=listed.parts or self._packaged(path, listed),
            )
            for path, listed in self.files.items()
        )

    def _packaged(self, path: str, listed: Listed) -> tuple[Source, ...]:
        if not isinstance(self.source, Source):
            return ()
        return (Source(package=self.source.package, path=f"{self.source.path}/{listed.path or path}"),)


Entry: TypeAlias = FileEntry | FolderEntry


def packages(entry: Entry) -> tuple[str, ...]:
    """The packages, as `name==version`, that bring the model's files."""
    return tuple(dict.fromkeys(origin.package for item in entry.items for origin in item.origins))
