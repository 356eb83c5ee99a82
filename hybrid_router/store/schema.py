"""The store's file: its tables, and how a file of any earlier version becomes one of this version.

A file's version is the number of migrations that it has seen.  Migrations are written out, not derived from
the tables, so that an old file goes the same way for ever; a test compares where both lead.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import Boolean, Column, Float, Index, LargeBinary, MetaData, String, Table

from hybrid_router.store.errors import StoreBroken, StoreError, StoreTooNew, named

BUSY_S = 5.0  # how long a statement waits for another process before it fails
_CHECKED_BYTES = 32 * 2**20  # a file up to this size is read through at start: some 50 ms
_NEW_FOLDER, _NEW_FILE = 0o700, 0o600  # the records say who asked what, if not in which words

_METADATA = MetaData()
NOTES = Table(
    "notes",
    _METADATA,
    Column("kind", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("document", LargeBinary, nullable=False),
    Column("changed", Float, nullable=False),
    sqlite_with_rowid=False,
)
DECISIONS = Table(
    "decisions",
    _METADATA,
    Column("id", String, primary_key=True),
    Column("principal", String, nullable=False),
    Column("alias", String, nullable=False),
    Column("at", Float, nullable=False),  # Unix time
    Column("outcome", String, nullable=False),
    Column("local_only", Boolean, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Index("decisions_at", "at"),
)

_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE notes (kind VARCHAR NOT NULL, key VARCHAR NOT NULL, document BLOB NOT NULL, "
        "changed FLOAT NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID",
        "CREATE TABLE decisions (id VARCHAR NOT NULL PRIMARY KEY, principal VARCHAR NOT NULL, "
        "alias VARCHAR NOT NULL, at FLOAT NOT NULL, outcome VARCHAR NOT NULL, "
        "local_only BOOLEAN NOT NULL, document BLOB NOT NULL)",
        "CREATE INDEX decisions_at ON decisions (at)",
    ),
)
VERSION = len(_MIGRATIONS)


def prepare(path: Path) -> None:
    """Make the file, or bring it up to date.  Blocks: for a thread.

    Raises:
        StoreError: it can be neither made nor used.
        StoreBroken: it is damaged, or another program's.
        StoreTooNew: it is from the future.
    """
    _make(path)
    with named(path), closing(sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)) as connection:
        version_of(connection, path)  # before anything is changed
        if path.stat().st_size <= _CHECKED_BYTES:
            _check(connection, path)
        # So that a reader, such as `replay`, never waits for the router nor the router for it.
        connection.execute("PRAGMA journal_mode = WAL")
        _migrate(connection, path)


def version_of(connection: sqlite3.Connection, path: Path) -> int:
    """The version of a file; 0 of an empty one.

    Raises:
        StoreBroken: it belongs to another program.
        StoreTooNew: it is of a later version than this code.
    """
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not names:
        return 0
    if not {"meta", "notes", "decisions"} <= names:
        raise StoreBroken(f"{path} is another program's file: let store.path name one of its own")
    row = connection.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
    version = int(row[0]) if row else 0
    if version > VERSION:
        raise StoreTooNew(
            f"{path} has version {version}, this hybrid-router knows {VERSION}: update it, "
            "or let store.path name another file"
        )
    return version


def _make(path: Path) -> None:
    """The folder and the file, readable by their owner alone; what is there already stays as it is."""
    try:
        path.parent.mkdir(mode=_NEW_FOLDER, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _NEW_FILE))
    except OSError as error:
        raise StoreError(f"{path} can be neither made nor opened: {error.strerror}") from error


def _check(connection: sqlite3.Connection, path: Path) -> None:
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise StoreBroken(f"{path} is damaged: {found}")


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """All steps in one transaction: whoever looks, looks at a whole version."""
    connection.execute("BEGIN IMMEDIATE")  # two that start at once do it one after the other
    with connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS meta (key VARCHAR PRIMARY KEY, value INTEGER NOT NULL)"
        )
        row = connection.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
        for statements in _MIGRATIONS[row[0] if row else 0 :]:
            for statement in statements:
                connection.execute(statement)
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('version', ?)", (VERSION,))
