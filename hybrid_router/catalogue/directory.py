"""What a process knows of Cloudflare's models: the newest catalogue, read when it is first asked for."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from hybrid_router.catalogue import workers_ai
from hybrid_router.catalogue.refresh import newest
from hybrid_router.catalogue.workers_ai import Catalogue, Model


class Directory:
    """The models that there are at Cloudflare.  One for the whole process, so that the table is read once.

    `folder`: the state folder, where a refreshed catalogue may be; None: what ships is used.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    @cached_property
    def catalogue(self) -> Catalogue:
        """The newest there is."""
        return workers_ai.load() if self._folder is None else newest(self._folder)

    @cached_property
    def models(self) -> dict[str, Model]:
        """Model id → model."""
        return self.catalogue.by_id()

    def renew(self, folder: Path) -> None:
        """Read it again, there, when it is next asked for."""
        self._folder = folder
        for read in ("catalogue", "models"):
            self.__dict__.pop(read, None)
