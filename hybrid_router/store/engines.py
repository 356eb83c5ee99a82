"""Connections to the store's file, each a thread of its own beside the event loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from sqlalchemy import URL, Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from hybrid_router.store.schema import BUSY_S

_WAL_BYTES = 4 * 2**20  # the write-ahead log is cut back to this once its pages are in the file
_READS = "reads"


def opened(path: Path, synchronous: Literal["NORMAL", "FULL"], connections_count: int = 1) -> AsyncEngine:
    """An engine for a prepared file.

    Args:
        synchronous: `FULL` writes reach the disk before a commit returns.  `NORMAL` ones may be lost, whole
            and the latest first, in a power cut; a killed process loses nothing either way.
    """
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        connect_args={"isolation_level": None, "timeout": BUSY_S},
        pool_size=connections_count,
        max_overflow=0,
        pool_timeout=2 * BUSY_S,
        hide_parameters=True,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def dress(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA synchronous = {synchronous}")
        cursor.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
        cursor.execute("PRAGMA secure_delete = FAST")  # what is dropped after keep_days is gone
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        # A write that begins as a read fails at once, without waiting, if another came between.
        reads = connection.get_execution_options().get(_READS)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def reading(engine: AsyncEngine) -> AsyncEngine:
    """The same connections, for transactions that only read."""
    return engine.execution_options(**{_READS: True})
