"""One thread that makes vectors of images and sound, while the decode loop goes on."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from ctypes import ArgumentError
from queue import Empty, SimpleQueue
from typing import TypeAlias

from hybrid_router.engines.llama.media.block import Block
from hybrid_router.engines.llama.media.projector import EncodingFailed, Vectors

# Whose, and of what.
Key: TypeAlias = tuple[str, bytes]
_FAILURES = (ValueError, TypeError, RuntimeError, LookupError, MemoryError, OSError, ArgumentError)
_KEPT_BYTES = 64 * 2**20  # of vectors that nobody waits for: the same picture behind another text


class Encoder:
    """Encodes one block at a time; all its methods are for the decode loop's thread."""

    def __init__(self, encode: Callable[[Block], Vectors], kept_bytes: int = _KEPT_BYTES) -> None:
        """`encode` may raise `EncodingFailed`."""
        self._encode = encode
        self._kept_bytes = kept_bytes
        self._jobs: SimpleQueue[tuple[Key, Block] | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[Key, Vectors | EncodingFailed]] = SimpleQueue()
        self._current: Key | None = None
        self._ready: OrderedDict[Key, Vectors] = OrderedDict()  # the one used longest ago first
        self._failed: dict[Key, EncodingFailed] = {}
        self._thread = threading.Thread(target=self._run, name="encode", daemon=True)
        self._thread.start()

    @property
    def encoding(self) -> bool:
        """Whether it has something to do."""
        return self._current is not None

    def want(self, wanted: Sequence[tuple[Key, Block]]) -> None:
        """Say what is needed, the most urgent first.  The first that is not there is begun."""
        self._collect()
        keys = {key for key, _ in wanted}
        self._shrink(keys)
        self._failed = {key: error for key, error in self._failed.items() if key in keys}
        if self._current is None:
            for key, block in wanted:
                if key not in self._ready and key not in self._failed:
                    self._current = key
                    self._jobs.put((key, block))
                    return

    def vectors(self, key: Key) -> Vectors | None:
        """What came of a block that is wanted; None: it is not there yet.

        Raises:
            EncodingFailed: it never will be.
        """
        self._collect()
        if error := self._failed.pop(key, None):
            raise error
        if key in self._ready:
            self._ready.move_to_end(key)
        return self._ready.get(key)

    def wait(self, timeout_s: float) -> None:
        """Wait until the block at hand is done, but not for long."""
        if self._current is not None:
            self._collect(timeout_s)

    def _collect(self, timeout_s: float = 0.0) -> None:
        try:
            key, found = self._done.get(timeout=timeout_s) if timeout_s else self._done.get_nowait()
        except Empty:
            return
        self._current = None
        if isinstance(found, EncodingFailed):
            self._failed[key] = found
        else:
            self._ready[key] = found

    def _shrink(self, needed: set[Key]) -> None:
        """Let go of what nobody waits for, if it is too much."""
        excess_bytes = sum(vectors.nbytes for vectors in self._ready.values()) - self._kept_bytes
        for key in [key for key in self._ready if key not in needed]:
            if excess_bytes <= 0:
                return
            excess_bytes -= self._ready.pop(key).nbytes

    def _run(self) -> None:
        """The thread."""
        while (job := self._jobs.get()) is not None:
            key, block = job
            try:
                self._done.put((key, self._encode(block)))
            except EncodingFailed as error:
                self._done.put((key, error))
            except _FAILURES as error:  # or whoever waits would wait for ever
                self._done.put((key, EncodingFailed(str(error))))
            del job, block  # frees what nobody else holds, now

    def close(self, timeout_s: float) -> bool:
        """End the thread.  Returns whether it did: if not, what it uses must not be freed."""
        self._jobs.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()
