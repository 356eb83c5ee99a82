"""States of sequences that left the context, in memory, up to so many bytes."""

from __future__ import annotations

import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hybrid_router.engines.llama.prefix.radix import TOKEN_BYTES
from hybrid_router.engines.llama.prefix.spaces import Found, Spaces


@dataclass
class Entry:
    """A state that is kept.

    Attributes:
        state: what the library gave.
        private: it may not be written to a disk.
        size_bytes: what it counts for.
        used_s: the wall clock when it was last put or got.
        settled: nothing is to be saved of it (any more).
    """

    state: bytes
    private: bool
    size_bytes: int
    used_s: float
    settled: bool


class States:
    """Whoever was not used for longest leaves first.

    An entry that can do nothing which a newer one cannot is dropped, with one exception: a private one never
    stands in for one that may be written to disk.
    """

    def __init__(
        self, ram_bytes: int, *, whole_only: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        self._limit_bytes = ram_bytes
        self._clock = clock
        self._spaces: Spaces[int] = Spaces(whole_only=whole_only)
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._next_key = 0
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def put(
        self, space: str, tokens: Sequence[int], state: bytes, *, private: bool, settled: bool = False
    ) -> int | None:
        """Keep a state.  `settled`: nothing is to be saved of it.

        Returns:
            The key of the entry that holds these tokens, which may be an older and longer one; None: it is
            larger than all the memory there is.
        """
        tokens = array("i", tokens)
        for key in self._spaces.covering(space, tokens):
            if private or not self._entries[key].private:
                self._use(key)
                return key
        size_bytes = len(state) + len(tokens) * TOKEN_BYTES
        if size_bytes > self._limit_bytes or not tokens:
            return None
        for key in self._spaces.covered(space, tokens):
            if self._entries[key].private or not private:
                self.drop(key)
        return self._add(space, tokens, self._entry(state, size_bytes, private=private, settled=settled))

    def _entry(self, state: bytes, size_bytes: int, *, private: bool, settled: bool) -> Entry:
        return Entry(state, private, size_bytes, self._clock(), settled or private)

    @property
    def free_bytes(self) -> int:
        """What fits without dropping anything."""
        return self._limit_bytes - self.held_bytes

    def best(self, space: str, tokens: Sequence[int]) -> Found[int] | None:
        """The entry of this space that saves most of the prompt `tokens`."""
        return self._spaces.best(space, tokens)

    def get(self, key: int) -> tuple[array[int], bytes] | None:
        """An entry's tokens and state; it stays.  None: it is gone."""
        if key not in self._entries:
            return None
        self._use(key)
        return self._spaces.tokens(key), self._entries[key].state

    def take(self, key: int) -> tuple[array[int], bytes] | None:
        """An entry's tokens and state; it leaves.  None: it is gone."""
        taken = self.get(key)
        self.drop(key)
        return taken

    def drop(self, key: int) -> None:
        """Forget an entry; one that is gone is fine."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.held_bytes -= entry.size_bytes
            self._spaces.drop(key)

    def place(self, key: int) -> tuple[str, array[int]]:
        """Space and tokens of an entry.

        Raises:
            KeyError: it is gone.
        """
        return self._spaces.space(key), self._spaces.tokens(key)

    def unsettled(self) -> list[tuple[int, Entry]]:
        """What is to be saved, the last used first."""
        return [(key, entry) for key, entry in reversed(self._entries.items()) if not entry.settled]

    def _add(self, space: str, tokens: Sequence[int], entry: Entry) -> int:
        """Make room, and hold an entry that fits."""
        while self.held_bytes + entry.size_bytes > self._limit_bytes:
            self.drop(next(iter(self._entries)))
        key = self._next_key
        self._next_key += 1
        self._spaces.add(space, key, tokens)
        self._entries[key] = entry
        self.held_bytes += entry.size_bytes
        return key

    def _use(self, key: int) -> None:
        """An entry was of use just now."""
        self._entries[key].used_s = self._clock()
        self._entries.move_to_end(key)
