"""What a process knows of Cloudflare's models: the newest catalogue, read when it is first asked for."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from hybrid_router.catalogue import workers_ai
from hybrid_router.catalogue.refresh import newest
from hybrid_router.catalogue.workers_ai import Catalogue, Model


class Directory:
    """The models that there are at Cloudflare.  One for the whole process, so that the table is read once.

    What ships, until `renew` says where a refreshed catalogue may be.

    Attributes:
        edition: another number for each catalogue that says something else than the one before.
    """

    def __init__(self) -> None:
        self.edition = 0

    @cached_property
    def catalogue(self) -> Catalogue:
        """The newest there is."""
        return workers_ai.load()

    @cached_property
    def models(self) -> dict[str, Model]:
        """Model id → model."""
        return self.catalogue.by_id()

    def renew(self, folder: Path) -> None:
        """Read it again; `folder` is the state folder."""
        found = newest(folder)
        if self.__dict__.get("catalogue") != found:
            self.catalogue, self.models = found, found.by_id()
            self.edition += 1
