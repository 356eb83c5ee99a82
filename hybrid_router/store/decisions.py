"""Decision records in SQLite.  Writing them costs a call nothing but a place in a queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncEngine

from hybrid_router.store.engines import reading
from hybrid_router.store.errors import StoreError, named
from hybrid_router.store.schema import DECISIONS

FLUSH_S = 0.25
BATCH_COUNT = 256
MOST_WAITING = 4096
MOST_WAITING_BYTES = 64 * 2**20
RETRY_S = 2.0  # after a write that failed
CLOSE_S = 8.0  # longer than a write may wait for another process
_PRUNE_COUNT = 500  # rows dropped at a time: some milliseconds of the file's lock
_PRUNE_EVERY_S = 3600.0
_DAY_S = 86_400.0
# A write whose end was not heard of is done again.  In the driver's own words: a batch comes with every few
# hundred calls, and binding each value by its type costs more than writing it.
_ADD = (
    "INSERT OR IGNORE INTO decisions (id, principal, alias, at, outcome, local_only, document) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)

# What one document may do wrong without costing the others.
_MISTAKES = (TypeError, ValueError, LookupError, AttributeError, RuntimeError, ArithmeticError)

OnLost: TypeAlias = Callable[[int, str], None]


class Row(Struct, frozen=True, kw_only=True):
    """One call's record.

    Attributes:
        at_s: when the call began, Unix time.
        size_bytes: about as much memory as is held until the record is written.
        document: makes what is kept as JSON.  Called in another thread, maybe more than once.
    """

    id: str
    principal: str
    alias: str
    at_s: float
    outcome: str
    local_only: bool
    document: Callable[[], Any]
    size_bytes: int = 2048


class Decisions:
    """The queue, the task that empties it, and what finds a record again.

    Its connections are synchronous = NORMAL: a power cut may cost the last records, never the file, and a
    sync for each batch would keep slow disks busy for nothing.

    Attributes:
        keep_days: older records are dropped, within an hour.
    """

    def __init__(self, path: Path, engine: AsyncEngine, keep_days: int, on_lost: OnLost) -> None:
        self.keep_days = keep_days
        self._path = path
        self._engine = engine
        self._on_lost = on_lost
        self._waiting: dict[str, Row] = {}
        self._waiting_bytes = 0
        self._writing: dict[str, Row] = {}
        self._lost_count = 0
        self._some = asyncio.Event()
        self._enough = asyncio.Event()
        self._closing = False
        self._why_over = "the router stopped before they were written"
        self._prune_at_s = 0.0  # on the loop's clock: at once
        self._task: Final = asyncio.create_task(self._run(), name="decision writer")
        self._task.add_done_callback(self._over)

    def add(self, row: Row) -> None:
        """Have a record written soon.  Never waits, never raises; what does not fit is counted as lost."""
        if (
            len(self._waiting) >= MOST_WAITING
            or self._waiting_bytes + row.size_bytes > MOST_WAITING_BYTES
            or self._closing
        ):
            self._lost_count += 1
            return
        self._waiting[row.id] = row
        self._waiting_bytes += row.size_bytes
        self._some.set()
        if len(self._waiting) >= BATCH_COUNT:
            self._enough.set()

    async def find(self, decision_id: str, principal: str) -> bytes | None:
        """The document of a principal's decision, written or still in the queue; None: there is none.

        Raises:
            StoreError: the file could not be read.
        """
        row = self._waiting.get(decision_id) or self._writing.get(decision_id)
        if row is not None:
            return await asyncio.to_thread(_document, row) if row.principal == principal else None
        wanted = select(DECISIONS.c.document).where(
            DECISIONS.c.id == decision_id, DECISIONS.c.principal == principal
        )
        with named(self._path):
            async with reading(self._engine).connect() as connection:
                found: bytes | None = await connection.scalar(wanted)
                return found

    async def close(self) -> None:
        """Write what waits, within a few seconds, and stop."""
        self._closing = True
        self._some.set()
        self._enough.set()
        _, unfinished = await asyncio.wait({self._task}, timeout=CLOSE_S)
        if unfinished:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _over(self, task: asyncio.Task[None]) -> None:
        """The writer has ended, by order or by a mistake of ours: nothing is kept from now on."""
        mistake = None if task.cancelled() else task.exception()
        self._closing = True
        self._lost_count += len(self._waiting) + len(self._writing)
        self._waiting.clear()
        self._writing.clear()
        self._tell(self._why_over if mistake is None else f"the writer ended: {type(mistake).__name__}")

    async def _run(self) -> None:
        while True:
            await self._due()
            try:
                await self._flush()
                await self._prune()
            except StoreError as error:
                self._tell(str(error))
                if self._closing:
                    self._why_over = str(error)
                    return
                await asyncio.sleep(RETRY_S)
            if self._closing and not self._waiting and not self._writing:
                return

    async def _due(self) -> None:
        """Wait until a batch is worth a transaction, or old records are to be dropped."""
        if self._writing or self._closing:
            return
        until_prune_s = max(0.0, self._prune_at_s - asyncio.get_running_loop().time())
        with suppress(TimeoutError):
            async with asyncio.timeout(until_prune_s):
                await self._some.wait()
        if self._waiting:
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_S):
                    await self._enough.wait()

    async def _flush(self) -> None:
        """Write one batch; it is still found while it is neither here nor there."""
        if not self._writing:
            self._take()
        if self._writing:
            rows, lost = await asyncio.to_thread(_encoded, list(self._writing.values()))
            if rows:
                with named(self._path):
                    async with self._engine.begin() as connection:
                        await connection.exec_driver_sql(_ADD, rows)
            self._writing = {}
            self._lost_count += len(lost)
            self._tell("; ".join(sorted(set(lost))) or "too many calls at once")

    def _take(self) -> None:
        """Move the oldest rows from what waits to what is written."""
        self._writing = dict(islice(self._waiting.items(), BATCH_COUNT))
        for key, row in self._writing.items():
            del self._waiting[key]
            self._waiting_bytes -= row.size_bytes
        if not self._waiting:
            self._some.clear()
        if len(self._waiting) < BATCH_COUNT:
            self._enough.clear()

    async def _prune(self) -> None:
        """Drop some of the records that are too old, if it is time to."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._prune_at_s or self._closing:
            return
        old = (
            select(DECISIONS.c.id)
            .where(DECISIONS.c.at < time.time() - self.keep_days * _DAY_S)
            .order_by(DECISIONS.c.at)
            .limit(_PRUNE_COUNT)
        )
        with named(self._path):
            async with self._engine.begin() as connection:
                done = await connection.execute(delete(DECISIONS).where(DECISIONS.c.id.in_(old)))
        more = done.rowcount == _PRUNE_COUNT
        self._prune_at_s = loop.time() + (FLUSH_S if more else _PRUNE_EVERY_S)

    def _tell(self, why: str) -> None:
        """Say how many records were lost since it was last said."""
        count, self._lost_count = self._lost_count, 0
        if count:
            self._on_lost(count, why)


def _document(row: Row) -> bytes:
    return msgspec.json.encode(row.document())


def _encoded(rows: list[Row]) -> tuple[list[tuple[Any, ...]], list[str]]:
    """Rows as they are written, and why some cannot be."""
    written: list[tuple[Any, ...]] = []
    lost: list[str] = []
    for row in rows:
        try:
            document = _document(row)
        except _MISTAKES as error:
            lost.append(f"a record could not be encoded ({type(error).__name__})")
            continue
        written.append((row.id, row.principal, row.alias, row.at_s, row.outcome, row.local_only, document))
    return written, lost
