"""States of sequences that left the context: those in memory, and behind them those on disk."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from typing import TypeAlias

from hybrid_router.engines.llama.prefix.disk import Disk
from hybrid_router.engines.llama.prefix.ram import Entry, States
from hybrid_router.engines.llama.prefix.spaces import Found

# An int is in memory, a str on disk.
Key: TypeAlias = int | str
# Taken for true until something was written.
_FIRST_RATE = 100e6


class Kept:
    """What the engine asks.  What memory drops before it was saved is gone.

    Prompts are to be given without their last token, which is computed in any case: its logits are wanted.
    """

    def __init__(
        self, ram: States, disk: Disk | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ram = ram
        self._disk = disk
        self._clock = clock
        self._rate = _FIRST_RATE

    def put(
        self, space: str, tokens: Sequence[int], state: bytes, *, private: bool, saved: bool = False
    ) -> bool:
        """Keep a state in memory; `save_one` brings it to disk, unless it is private or `saved` already.

        What is too large for the memory goes to disk at once.  Returns whether it is kept.
        """
        if self._ram.put(space, tokens, state, private=private, settled=saved) is not None:
            return True
        if self._disk is None or private or saved:
            return saved
        return self._disk.put(space, tokens, state, private=False)

    @property
    def free_bytes(self) -> int:
        """Memory that is not taken yet."""
        return self._ram.free_bytes

    def best(self, space: str, tokens: Sequence[int]) -> Found[int] | Found[str] | None:
        """The state that saves most of the prompt `tokens`; of two such, the one in memory."""
        tokens = array("i", tokens)
        near = self._ram.best(space, tokens)
        if self._disk is None or (near is not None and near.count == len(tokens)):
            return near
        far = self._disk.best(space, tokens)
        if near is None or (far is not None and far.count > near.count):
            return far
        return near

    def fetch(self, key: Key) -> tuple[array[int], bytes] | None:
        """Tokens and state of what `best` found, which stays.  None: it is gone."""
        if isinstance(key, int):
            return self._ram.get(key)
        tokens = None if self._disk is None else self._disk.tokens(key)
        state = None if self._disk is None else self._disk.read(key)
        return None if tokens is None or state is None else (tokens, state)

    def drop(self, key: Key) -> None:
        """Forget a state, which the library would not take, say."""
        if isinstance(key, int):
            self._ram.drop(key)
        elif self._disk is not None:
            self._disk.drop(key)

    @property
    def unsaved(self) -> int:
        """How many states are to be saved."""
        return 0 if self._disk is None else len(self._ram.unsettled())

    def saves(self, size_bytes: int, until_s: float) -> bool:
        """Whether so much can be written before `until_s` of the clock, by what was written so far."""
        return self._clock() + size_bytes / self._rate < until_s

    def save_one(self) -> bool:
        """Save the state that was used last of those that are to be saved.  Returns whether there was one."""
        waiting = [] if self._disk is None else self._ram.unsettled()
        if waiting:
            self._save(*waiting[0])
        return bool(waiting)

    def close(self, until_s: float) -> None:
        """Save, the last used first, what can be saved before `until_s` of the clock; close the disk."""
        if self._disk is None:
            return
        for key, entry in self._ram.unsettled():
            if self.saves(entry.size_bytes, until_s):
                self._save(key, entry)
        self._disk.close()
        self._disk = None

    def _save(self, key: int, entry: Entry) -> None:
        """Write one state.  It is done with then, even if the disk would not have it."""
        if self._disk is None:
            return
        started_s = self._clock()
        space, tokens = self._ram.place(key)
        entry.settled = True
        if self._disk.put(space, tokens, entry.state, private=entry.private, used_s=entry.used_s):
            took_s = self._clock() - started_s
            self._rate = entry.size_bytes / max(took_s, 1e-3)
