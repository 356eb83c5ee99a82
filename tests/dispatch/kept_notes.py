"""Notes in memory, and a clock that only the test moves: what a meter is given."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from hybrid_router.routing.moments import Moment

START = datetime(2026, 11, 22, 12, tzinfo=UTC)


class KeptNotes:
    """See `core.notes.Notes`.  `kept` is what survives; `broken` makes it refuse, `gate` makes it wait.

    `begun` is set when a save begins, `saved` when one has ended well.
    """

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.saves_count = 0
        self.broken = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = asyncio.Event()
        self.saved = asyncio.Event()

    async def load(self, kind: str) -> dict[str, bytes]:
        if self.broken:
            raise OSError("the disk is gone")
        return dict(self.kept)

    async def save(self, kind: str, notes: Mapping[str, bytes]) -> None:
        self.saves_count += 1
        self.begun.set()
        await self.gate.wait()
        await asyncio.sleep(0)
        if self.broken:
            raise OSError("the disk is full")
        self.kept.update(notes)
        self.saved.set()


class SetClock:
    """Two clocks: `pass_` moves both, `set` the wall's alone, `reboot` starts the other anew."""

    def __init__(self) -> None:
        self.true = START
        self.off = timedelta()
        self._booted = START - timedelta(hours=1)
        self._boots_count = 0

    def __call__(self) -> Moment:
        return Moment(
            wall=self.true + self.off,
            elapsed_s=(self.true - self._booted).total_seconds(),
            boot=f"boot-{self._boots_count}",
        )

    def pass_(self, **much: float) -> None:
        """Let so much time go by."""
        self.true += timedelta(**much)

    def reboot(self) -> None:
        """Start the machine anew; its clock is right then."""
        self._boots_count += 1
        self._booted = self.true
        self.off = timedelta()
