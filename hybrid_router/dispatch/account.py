"""One account's day and the note that it survives by.

A note for every call would cost a disk's sync each.  So a note says more than is used, by a lease, and is
written before more than that is reserved.  Whatever happens to the process, no more was used than the note
says; what a crash leaves of a lease counts as spent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

import msgspec
from msgspec import Struct

from hybrid_router.config import cloud_schema
from hybrid_router.core.notes import Notes
from hybrid_router.dispatch.clocks import Clock
from hybrid_router.routing.day import Day, State
from hybrid_router.routing.ledger import daily_most

KIND = "ledger"
_LEASE_SHARE = 0.01  # of a day: what a crash may waste

OnTrouble: TypeAlias = Callable[[str], None]


class Note(Struct, frozen=True, kw_only=True):
    """What is written of an account.  `backends` are those that used it."""

    backends: tuple[str, ...]
    state: State


def read(document: bytes) -> Note:
    """A note's content.

    Raises:
        ValueError: it is none.
    """
    return msgspec.json.decode(document, type=Note)


class Account:
    """Keeps the note ahead of the day.

    Attributes:
        backends: names of those that use the account.
    """

    def __init__(
        self, key: str, day: Day, notes: Notes | None, now: Clock, *, on_trouble: OnTrouble, wait_s: float
    ) -> None:
        self.day = day
        self.backends: set[str] = set()
        self._key = key
        self._notes = notes
        self._now = now
        self._on_trouble = on_trouble
        self._wait_s = wait_s
        self._config = cloud_schema.Neurons()
        self._covered_most = -1.0  # what the note says at least, whatever is being written
        self._covered_turn = 0  # of the day
        self._in_trouble = False
        self._is_stale = False
        self._writer: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def cover(self, config: cloud_schema.Neurons) -> None:
        """Return once the note says at least what is used now, or it is clear that this cannot be."""
        self._config = config
        until_s = asyncio.get_running_loop().time() + self._wait_s
        while self._notes is not None and not self._is_covered():
            writer = self._write(self._notes)
            left_s = 0.0 if self._in_trouble else until_s - asyncio.get_running_loop().time()
            done, _ = await asyncio.wait({writer}, timeout=max(0.0, left_s))
            if not done:
                self._trouble(f"it takes longer than {self._wait_s:g} s")
                return
            writer.result()

    def note_within(self, wait_s: float) -> None:
        """Bring the note up to date a little later."""
        if self._notes is None:
            return
        loop = asyncio.get_running_loop()
        if self._timer is not None and self._timer.when() <= loop.time() + wait_s:
            return
        self._stop_timer()
        self._timer = loop.call_later(wait_s, self._write, self._notes)

    async def close(self) -> None:
        """Note exactly what was used.  Bounded."""
        self._stop_timer()
        if self._notes is None:
            return
        writer = self._write(self._notes)
        done, _ = await asyncio.wait({writer}, timeout=self._wait_s)
        if not done:
            self._trouble(f"it takes longer than {self._wait_s:g} s")
            writer.cancel()
            await asyncio.wait({writer})

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _is_covered(self) -> bool:
        used = self.day.used(self._now())
        return self._covered_turn == self.day.turns_count and used <= self._covered_most

    def _write(self, notes: Notes) -> asyncio.Task[None]:
        """The task that writes until the note is up to date."""
        self._stop_timer()
        self._is_stale = True
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._written(notes))
        return self._writer

    async def _written(self, notes: Notes) -> None:
        while self._is_stale:
            self._is_stale = False
            state = self._state()
            turn = self.day.turns_count
            self._covered_most = min(self._covered_most, state.most)  # whoever comes meanwhile waits for more
            note = Note(backends=tuple(sorted(self.backends)), state=state)
            try:
                await notes.save(KIND, {self._key: msgspec.json.encode(note)})
                self._in_trouble = False
            except OSError as error:
                self._trouble(str(error))
            # If it failed, too: the next try comes with the next lease.
            self._covered_most, self._covered_turn = state.most, turn

    def _state(self) -> State:
        """What to write: with a lease while calls run, exact while none does."""
        now = self._now()
        used = self.day.used(now)
        if not self.day.reserved:
            return self.day.state(used, now)
        lease = self._config.daily * _LEASE_SHARE
        return self.day.state(min(used + lease, daily_most(self._config)), now)

    def _trouble(self, why: str) -> None:
        """Tell the first time of a row."""
        if not self._in_trouble:
            self._in_trouble = True
            self._on_trouble(f"what is used of the day's neurons cannot be noted: {why}")
