"""What can be wrong with the store.  All are `OSError`s, which is all that most callers need to know."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class StoreError(OSError):
    """The store could not be read or written: no room, no permission, locked for too long."""


class StoreBroken(StoreError):
    """The file is damaged, or is not a store of ours.  It is left as it is."""


class StoreTooNew(StoreError):
    """The file was written by a later version of hybrid-router, and says things this one does not know."""


@contextmanager
def named(path: Path) -> Iterator[None]:
    """What SQLite and SQLAlchemy raise, as ours.

    Raises:
        StoreError: see there.
    """
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise failure(path, error) from error


def failure(path: Path, error: SQLAlchemyError | sqlite3.Error) -> StoreError:
    """Name what went wrong.  Statements and their values, which SQLAlchemy's text holds, stay out."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlite_errorcode", None)
    if code is not None and code & 0xFF in _DAMAGED:
        return StoreBroken(f"{path} is damaged, or no SQLite file: {cause}")
    return StoreError(f"{path}: {cause or type(error).__name__}")
