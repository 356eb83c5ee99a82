"""Which local models fit the memory that router.yaml gives them, counted as the router itself will count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from hybrid_router.config.backend_schema import LocalBackend
from hybrid_router.config.local_schema import LocalModel
from hybrid_router.config.schema import Loaded
from hybrid_router.core.space import UNLIMITED, Space
from hybrid_router.engines.needs import needed
from hybrid_router.models import manifest
from hybrid_router.models.entry import Entry, FolderEntry
from hybrid_router.models.errors import ModelFileError
from hybrid_router.models.weights import find, locate
from hybrid_router.workers.memory import Scales
from hybrid_router.workers.residency import Residency

if TYPE_CHECKING:
    from hybrid_router.app.model_files import File


class Guest(Struct, frozen=True, kw_only=True):
    """A local model.

    Attributes:
        need: what it is counted for; nothing where its files cannot be read and `memory` is not written.
        why_never: why it is never loaded; None: it is once others have made room.
    """

    backend: str
    model: str
    chosen: LocalModel
    need: Space
    why_never: str | None

    @property
    def step(self) -> str:
        """As aliases name it."""
        return f"{self.backend}/{self.model}"


def local_models(loaded: Loaded) -> Iterator[tuple[str, str, LocalModel]]:
    """Backend, name and settings of each, in the file's order."""
    for backend, written in loaded.config.backends.items():
        if isinstance(written, LocalBackend):
            for model, chosen in written.models.items():
                yield backend, model, chosen


class Places:
    """Where the manifest says that files are; whether they are its own is not looked at."""

    def __init__(self, loaded: Loaded) -> None:
        listed = Path(loaded.path).parent / loaded.config.manifest
        self._folder = listed.absolute().parent
        self._entries: dict[str, Entry] = {}
        with suppress(ModelFileError):  # nobody has a file then, which is warned of
            self._entries = manifest.read(listed)

    def of(self, name: str) -> File:
        """The file or folder of an entry.

        Raises:
            ModelFileError: there is no such entry.
        """
        from hybrid_router.app.model_files import File  # noqa: PLC0415

        return File(locate(find(self._entries, name), self._folder))

    def folder(self, name: str) -> Path | None:
        """The folder of an entry that is one, if every file of it is there."""
        entry = self._entries.get(name)
        if not isinstance(entry, FolderEntry):
            return None
        whole = all((self._folder / item.path).is_file() for item in entry.items)
        return locate(entry, self._folder) if whole else None


class Room(Struct, frozen=True, kw_only=True):
    """What a configuration's models find on this machine.

    Attributes:
        total, given: what memory there is, and what router.yaml gives of it.
        places: where the models' files are.
        guests: who wants memory; empty until they are counted.
    """

    loaded: Loaded
    total: Space
    given: Space
    places: Places
    guests: tuple[Guest, ...] = ()

    @property
    def gpus(self) -> bool:
        """Whether any GPU's memory is counted."""
        return self.total.vram_bytes < UNLIMITED.vram_bytes


def counted(loaded: Loaded, scales: Scales) -> Room:
    """Enter every local model into books like the router's, and read there who never fits.  Reads files."""
    from hybrid_router.app.model_files import terms  # noqa: PLC0415 - the server, only when it is asked
    from hybrid_router.app.rooms import budget  # noqa: PLC0415

    given = budget(loaded.config.residency, scales)
    room = Room(loaded=loaded, total=scales.total(), given=given.space, places=Places(loaded))
    books = Residency(given)
    entered = []
    for backend, model, chosen in local_models(loaded):
        key = books.enter(model, terms(chosen))
        books.estimated(key, _need(model, chosen, room))
        entered.append((key, backend, model, chosen))
    guests = tuple(
        Guest(
            backend=backend,
            model=model,
            chosen=chosen,
            need=books.tenants[key].need,
            why_never=books.why_not(key),
        )
        for key, backend, model, chosen in entered
    )
    return replace(room, guests=guests)


def _need(model: str, chosen: LocalModel, room: Room) -> Space:
    from hybrid_router.app.model_files import gathered, settings  # noqa: PLC0415

    try:
        files = gathered(model, chosen, room.places.of)
    except ModelFileError:
        return Space()
    return needed(settings(files, chosen, None), room=room.given, gpus=room.gpus)
