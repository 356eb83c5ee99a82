"""States on disk: they survive unload and restart.

Nothing here raises for what is wrong with the disk or with what lies on it.  A file that is not exactly what
was written is deleted and never handed on; a folder that cannot be used is told of once, and the cache goes
on without it.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

from hybrid_router.engines.llama.prefix.folder import Folder, Held
from hybrid_router.engines.llama.prefix.radix import packed, unpacked
from hybrid_router.engines.llama.prefix.spaces import Found, Spaces
from hybrid_router.engines.llama.prefix.state_file import (
    Head,
    Unusable,
    beginning,
    file_name,
    read_head,
    read_state,
    shelf_name,
    space_name,
)

_MOST_FILES = 4096
# A folder's time is as coarse as the kernel's tick: a change that follows at once may not show in it.
_SETTLED_NS = 50_000_000
_CLOCK_ERROR_NS = 60_000_000_000


class Disk:
    """The files of one model under one set of context settings, in a folder shared with others.

    Names of principals are not readable in it; prompts, as token ids, are, by the user the router runs as.
    """

    def __init__(
        self,
        folder: str | Path,
        limit_bytes: int,
        key: str,
        *,
        whole_only: bool = False,
        on_trouble: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        """Open the folder, made if its parent is there.

        Args:
            folder: for the states of all models.
            limit_bytes: for all files in it.
            key: what a state depends on: the model's sha256, context settings, version of the library.
            whole_only: as for `Spaces`.
            on_trouble: hears once why there is no disk, or none to write to.
        """
        self._path = folder
        self._limit_bytes = limit_bytes
        self._spaces: Spaces[str] = Spaces(whole_only=whole_only)
        self._seen_ns: int | None = None
        self._on_trouble = on_trouble
        self._writable = True
        self._told = False
        self._folder: Folder | None = None
        try:
            self._folder = Folder(Path(folder), shelf_name(key))
            self._make_room(0, time.time_ns())
        except OSError as error:
            self._give_up(error)

    def put(
        self, space: str, tokens: Sequence[int], state: bytes, *, private: bool, used_s: float | None = None
    ) -> bool:
        """Write a state and wait until it is safe.

        Args:
            space: whose it is.
            tokens: what it was computed of.
            state: what the library gave.
            private: then nothing happens.
            used_s: wall clock of its last use, which says what is deleted first; None: now.

        Returns:
            Whether the folder now holds these tokens: not if there is no room but in place of what was used
            later, or no disk.
        """
        if private or self._folder is None or not self._writable or not tokens:
            return False
        used_s = time.time() if used_s is None else used_s
        try:
            return self._put(self._folder, space_name(space, self._folder.secret), tokens, state, used_s)
        except OSError as error:
            self._writable = False
            self._tell(f"prefixes are no longer written to {self._path}: {_reason(error)}")
            return False

    def best(self, space: str, tokens: Sequence[int]) -> Found[str] | None:
        """The state of this space that saves most of the prompt `tokens`."""
        if self._folder is None:
            return None
        try:
            self._look(self._folder)
        except OSError as error:
            self._give_up(error)
            return None
        return self._spaces.best(space_name(space, self._folder.secret), tokens)

    def tokens(self, key: str) -> array[int] | None:
        """The tokens of a state; None: it is gone."""
        return self._spaces.tokens(key) if key in self._spaces else None

    def read(self, key: str) -> bytes | None:
        """A state, exactly as it was put.  None: it is gone, or was not usable and has been deleted."""
        folder = self._folder
        if folder is None or key not in self._spaces:
            return None
        try:
            with folder.reading(key) as (file, size_bytes):
                head = _own_head(read_head(file, size_bytes, folder.secret), folder, key)
                state = read_state(file, head, folder.secret)
            folder.touch(key, time.time())
        except (PermissionError, Unusable):
            self.drop(key)
            return None
        except OSError:
            self._spaces.drop(key)
            return None
        return state

    def drop(self, key: str) -> None:
        """Delete a state; one that is gone is fine."""
        self._spaces.drop(key)
        if self._folder is not None:
            self._folder.delete(self._folder.shelf, key)

    def close(self) -> None:
        """Close the folder; nothing is found in it any more."""
        if self._folder is not None:
            self._folder.close()
            self._folder = None

    def _put(self, folder: Folder, space: str, tokens: Sequence[int], state: bytes, used_s: float) -> bool:
        self._look(folder)
        for name in self._spaces.covering(space, tokens):
            if self._touched(folder, name, used_s):
                return True
        raw = packed(tokens)
        name = file_name(folder.shelf, space, raw, folder.secret)
        start = beginning(space, raw, state, folder.secret)
        older = self._spaces.covered(space, tokens)
        if not self._make_room(len(start) + len(state), int(used_s * 1e9), older):
            return False
        folder.write(name, (start, state), used_s)
        self._spaces.add(space, name, tokens)
        for key in older:
            self.drop(key)
        return True

    def _touched(self, folder: Folder, name: str, used_s: float) -> bool:
        """Mark a state as used; whether it is still there."""
        try:
            folder.touch(name, used_s)
        except FileNotFoundError:
            self._spaces.drop(name)
            return False
        return True

    def _make_room(self, size_bytes: int, used_ns: int, older: Sequence[str] = ()) -> bool:
        """Delete files until `size_bytes` more fit: first those named, then what was not used for longest,
        but nothing that was used after `used_ns`.  Returns whether it was possible; if not, nothing is gone.
        """
        folder = self._folder
        if folder is None or size_bytes > self._limit_bytes:
            return False
        # A time that is still to come was set by a clock that was wrong: it protects nothing.
        latest_ns = time.time_ns() + _CLOCK_ERROR_NS
        held = [
            (file.name not in older, file.used_ns if file.used_ns <= latest_ns else 0, file)
            for file in folder.held()
        ]
        excess_bytes = sum(file.size_bytes for _, _, file in held) + size_bytes - self._limit_bytes
        leaving: list[Held] = []
        for wanted, last_ns, file in sorted(held):
            if excess_bytes <= 0 or (wanted and last_ns > used_ns):
                break
            leaving.append(file)
            excess_bytes -= file.size_bytes
        if excess_bytes > 0:
            return False
        for file in leaving:
            folder.delete(file.shelf, file.name)
            self._spaces.drop(file.name)
        return True

    def _look(self, folder: Folder) -> None:
        """Learn of files that came or went since the last look: ours of an earlier life, or those of another
        process with the same model."""
        changed_ns = folder.changed_ns
        if changed_ns == self._seen_ns:
            return
        held = sorted(folder.own(), key=lambda file: -file.used_ns)[:_MOST_FILES]
        names = {file.name for file in held}
        for name in self._spaces.keys():  # noqa: SIM118 - a list, not a view
            if name not in names:
                self._spaces.drop(name)
        for file in held:
            if file.name not in self._spaces:
                self._learn(folder, file.name)
        self._seen_ns = changed_ns if time.time_ns() - changed_ns > _SETTLED_NS else None

    def _learn(self, folder: Folder, name: str) -> None:
        """Read what a file holds, or delete it."""
        try:
            with folder.reading(name) as (file, size_bytes):
                head = _own_head(read_head(file, size_bytes, folder.secret), folder, name)
        except (PermissionError, Unusable):
            folder.delete(folder.shelf, name)
            return
        except OSError:  # gone again, or too many files are open: nothing is wrong with it
            return
        self._spaces.add(head.space, name, unpacked(head.tokens))

    def _give_up(self, error: OSError) -> None:
        """Go on without the folder."""
        self.close()
        self._tell(f"prefixes are not kept in {self._path}: {_reason(error)}")

    def _tell(self, text: str) -> None:
        if not self._told:
            self._told = True
            self._on_trouble(text)


def _own_head(head: Head, folder: Folder, name: str) -> Head:
    """The head, if it belongs to this name on this shelf.

    Raises:
        Unusable: the file was moved here.
    """
    if name != file_name(folder.shelf, head.space, head.tokens, folder.secret):
        raise Unusable("moved here from elsewhere")
    return head


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
