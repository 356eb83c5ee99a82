"""Small things that outlive the process: what others remember through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Notes(Protocol):
    """Documents by kind and key.  `store.notes.Notes` keeps them in SQLite."""

    async def load(self, kind: str) -> dict[str, bytes]:
        """Every note of a kind."""
        ...

    async def save(self, kind: str, notes: Mapping[str, bytes]) -> None:
        """Write or replace notes, all or none.  They survive a power cut once this returns.

        Raises:
            OSError: they could not be written.
        """
        ...
