"""Reading a store that a router may be writing to: for the command line.  Blocks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, Connection, NullPool, create_engine, select, tuple_

from hybrid_router.store.errors import StoreError, named
from hybrid_router.store.schema import BUSY_S, DECISIONS, NOTES, VERSION, version_of

_PAGE_COUNT = 500


class Reader:
    """An open store that is not changed."""

    def __init__(self, path: Path, connection: Connection) -> None:
        self._path = path
        self._connection = connection

    def notes(self, kind: str) -> dict[str, bytes]:
        """Every note of a kind.

        Raises:
            StoreError: they could not be read.
        """
        wanted = select(NOTES.c.key, NOTES.c.document).where(NOTES.c.kind == kind)
        with named(self._path):
            rows = self._connection.execute(wanted).all()
        return {row.key: row.document for row in rows}

    def decisions(self, since_s: float = 0.0) -> Iterator[bytes]:
        """Documents of decisions from `since_s` (Unix time) on, oldest first.

        Page by page: the router's log of changes cannot be cleared away while somebody reads in it.

        Raises:
            StoreError: they could not be read.
        """
        after: tuple[float, str] = (since_s, "")
        while True:
            page = (
                select(DECISIONS.c.at, DECISIONS.c.id, DECISIONS.c.document)
                .where(tuple_(DECISIONS.c.at, DECISIONS.c.id) > after)
                .order_by(DECISIONS.c.at, DECISIONS.c.id)
                .limit(_PAGE_COUNT)
            )
            with named(self._path):
                rows = self._connection.execute(page).all()
                self._connection.rollback()
            for row in rows:
                yield row.document
            if len(rows) < _PAGE_COUNT:
                return
            after = (rows[-1].at, rows[-1].id)


@contextmanager
def open_reader(path: Path) -> Iterator[Reader]:
    """Open a store for reading; the router need not run.

    Raises:
        StoreError: there is none, or an older one that a router must open first.
        StoreBroken: it is damaged, or another program's.
        StoreTooNew: it was written by a later version.
    """
    if not path.is_file():
        raise StoreError(f"there is no store at {path}: a router makes it when it starts")
    address = URL.create("sqlite", database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"})
    engine = create_engine(
        address, poolclass=NullPool, connect_args={"timeout": BUSY_S}, hide_parameters=True
    )
    with named(path), engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None  # noqa: S101 - it is connected
        if version_of(driver, path) < VERSION:
            raise StoreError(f"{path} is of an earlier version: start the router once to bring it up to date")
        yield Reader(path, connection)
