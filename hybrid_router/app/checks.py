"""Whether a model's files are the manifest's: as a configuration is opened, and before each start."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from pathlib import Path

from hybrid_router.app.model_files import File
from hybrid_router.models import manifest
from hybrid_router.models.entry import Entry
from hybrid_router.models.errors import ModelFileError
from hybrid_router.models.stamps import Stamp
from hybrid_router.models.weights import find, locate, verify


class Checks:
    """The files of one model.  Everything here blocks.

    Attributes:
        stamps: the files as they were when they were last found right.
    """

    def __init__(self, listed: Path, known: AbstractSet[Stamp]) -> None:
        """`listed`: the manifest; `known`: files that were found right before."""
        self._listed = listed
        self._entries: dict[str, Entry] = {}
        self.stamps: frozenset[Stamp] = frozenset(known)

    def verified(self, name: str) -> File:
        """The file or folder of an entry of the manifest.

        A file that was verified before and was not touched since is not read again, even where no stamp
        could be written.

        Raises:
            ModelFileError: there is no such entry, or its files are missing or others.
        """
        entry = find(manifest.read(self._listed), name)
        stamps = verify(name, entry, self._listed.parent, known=self.stamps)
        self._entries[name] = entry
        return File(locate(entry, self._listed.parent), entry.digest, stamps)

    def keep(self, stamps: AbstractSet[Stamp]) -> None:
        """Forget what was known of other models' files."""
        self.stamps = frozenset(stamps)

    def unfit(self) -> str | None:
        """Why a child should not open the files now; None: they are what they were.

        The manifest is not read again: another one holds from the next reload on.
        """
        found: set[Stamp] = set()
        try:
            for name, entry in self._entries.items():
                found.update(verify(name, entry, self._listed.parent, known=self.stamps))
        except ModelFileError as error:
            return f"{error.message}; then `hybrid-router reload`"
        self.keep(found)
        return None
