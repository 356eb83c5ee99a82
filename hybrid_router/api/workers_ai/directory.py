"""Cloudflare's catalogue, read when the first request asks for it."""

from __future__ import annotations

from functools import cached_property
from typing import Final

from aiohttp import web

from hybrid_router.catalogue import workers_ai
from hybrid_router.catalogue.workers_ai import Catalogue, Model


class Directory:
    """The models that there are at Cloudflare.  One for the whole process."""

    @cached_property
    def catalogue(self) -> Catalogue:
        """The table that ships with this package."""
        return workers_ai.load()

    @cached_property
    def models(self) -> dict[str, Model]:
        """Model id → model."""
        return self.catalogue.by_id()


DIRECTORY: Final = web.AppKey("directory", Directory)
