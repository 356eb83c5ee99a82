"""The store: one SQLite file that outlives the process."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hybrid_router.store.engines import opened
from hybrid_router.store.notes import StoredNotes
from hybrid_router.store.schema import prepare


class Store:
    """An open store.

    Attributes:
        notes: small things by kind and key.
    """

    def __init__(self, path: Path) -> None:
        """`path` is a file that `schema.prepare` has seen."""
        self.path = path
        self._for_notes = opened(path, "FULL")
        self.notes = StoredNotes(path, self._for_notes)

    async def close(self) -> None:
        """Let go of the file; what waits is written first."""
        await self._for_notes.dispose()


async def open_store(path: Path) -> Store:
    """Open the store, making or updating its file.

    Raises:
        StoreError: it can be neither made nor used.
        StoreBroken: it is damaged, or another program's.
        StoreTooNew: it was written by a later version.
    """
    await asyncio.to_thread(prepare, path)
    return Store(path)
