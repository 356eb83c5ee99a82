"""Notes in SQLite: what `core.notes.Notes` promises."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from hybrid_router.store.engines import reading
from hybrid_router.store.errors import named
from hybrid_router.store.schema import NOTES


class StoredNotes:
    """See `core.notes.Notes`.

    Its connection is synchronous = FULL.  A neuron that was spent and forgotten is spent twice, and a note
    is written a few times a minute at most: a sync each is cheap here.
    """

    def __init__(self, path: Path, engine: AsyncEngine) -> None:
        self._path = path
        self._engine = engine

    async def load(self, kind: str) -> dict[str, bytes]:
        """Every note of a kind.

        Raises:
            StoreError: they could not be read.
        """
        wanted = select(NOTES.c.key, NOTES.c.document).where(NOTES.c.kind == kind)
        with named(self._path):
            async with reading(self._engine).connect() as connection:
                rows = await connection.execute(wanted)
                return {row.key: row.document for row in rows}

    async def save(self, kind: str, notes: Mapping[str, bytes]) -> None:
        """Write or replace notes, all or none.  They survive a power cut once this returns.

        Raises:
            StoreError: they could not be written.
        """
        if not notes:
            return
        changed = time.time()
        rows = [
            {"kind": kind, "key": key, "document": document, "changed": changed}
            for key, document in notes.items()
        ]
        written = insert(NOTES)
        replaced = written.on_conflict_do_update(
            index_elements=[NOTES.c.kind, NOTES.c.key],
            set_={"document": written.excluded.document, "changed": written.excluded.changed},
        )
        with named(self._path):
            async with self._engine.begin() as connection:
                await connection.execute(replaced, rows)
