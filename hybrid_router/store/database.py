"""The store: one SQLite file that outlives the process."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hybrid_router.store.decisions import Decisions, OnLost
from hybrid_router.store.engines import opened
from hybrid_router.store.notes import StoredNotes
from hybrid_router.store.schema import prepare


def _pass_over(count: int, why: str) -> None:
    """The default `OnLost`."""


class Store:
    """An open store.

    Attributes:
        path: its file.
        notes: small things by kind and key.
        decisions: what became of calls.
    """

    def __init__(self, path: Path, keep_days: int, on_lost: OnLost) -> None:
        """`path` is a file that `schema.prepare` has seen.  Needs a running loop."""
        self.path = path
        self._engines = opened(path, "FULL"), opened(path, "NORMAL", connections_count=2)
        for_notes, for_decisions = self._engines
        self.notes = StoredNotes(path, for_notes)
        self.decisions = Decisions(path, for_decisions, keep_days, on_lost)

    async def close(self) -> None:
        """Write what waits, and let go of the file.  Takes some seconds at most."""
        await self.decisions.close()
        for engine in self._engines:
            await engine.dispose()


async def open_store(path: Path, *, keep_days: int = 30, on_lost: OnLost = _pass_over) -> Store:
    """Open the store, making or updating its file.

    Args:
        keep_days: decision records older than this are dropped.
        on_lost: told how many decision records could not be written, and why.

    Raises:
        StoreError: it can be neither made nor used.
        StoreBroken: it is damaged, or another program's.
        StoreTooNew: it was written by a later version.
    """
    await asyncio.to_thread(prepare, path)
    return Store(path, keep_days, on_lost)
