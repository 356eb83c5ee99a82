"""Writing lines without ever waiting for their reader.

A thread writes, the caller only appends to a bounded buffer.  Making the descriptor non-blocking would be
simpler, but that flag belongs to the open file, which we share with the shell and with every child; and
a socket whose reader has stopped blocks a write in the middle whatever `poll` said before.
"""

from __future__ import annotations

import math
import os
import select
import threading
import time
from collections.abc import Callable

_POLL_S = 0.1


class Writer:
    """Batches lines and writes them to a descriptor of its own.

    A closed or blocked reader costs lines, never a call: what does not fit is counted, and the count is
    written as a line of its own when the reader is back.

    Args:
        fd: where to write; None when there is no such place, then every line is lost.
        lost_line: makes the line that tells how many lines were lost.
        batch_s: how long a line may wait for company.
        batch_bytes: a batch this large is written at once.
        limit_bytes: how much may wait for a slow reader.
    """

    def __init__(
        self,
        fd: int | None,
        lost_line: Callable[[int], bytes],
        *,
        batch_s: float = 0.1,
        batch_bytes: int = 65_536,
        limit_bytes: int = 1_048_576,
    ) -> None:
        # Our own descriptor: were standard error closed, its number could become a client's socket.
        self._fd = None if fd is None else os.dup(fd)
        self._lost_line = lost_line
        self._batch_s, self._batch_bytes, self._limit_bytes = batch_s, batch_bytes, limit_bytes
        self._lines: list[bytes] = []
        self._waiting_bytes = 0
        self._urgent = False
        self._closed = False
        self._give_up_s = math.inf
        self._torn = False  # the last write ended inside a line
        self._untold_count = 0
        self.lost_count = 0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write_batches, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, line: bytes, *, urgent: bool = False) -> None:
        """Take a line, which ends in a newline.  Returns at once and never raises."""
        with self._changed:
            if self._closed or self._waiting_bytes + len(line) > self._limit_bytes:
                self._lose(1)
                return
            self._lines.append(line)
            self._waiting_bytes += len(line)
            self._urgent = self._urgent or urgent
            if len(self._lines) == 1 or self._due():
                self._changed.notify()

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what waits, for about `timeout_s` at most."""
        with self._changed:
            self._give_up_s = time.monotonic() + timeout_s
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout_s + 1.0)

    def _due(self) -> bool:
        return self._closed or self._urgent or self._waiting_bytes >= self._batch_bytes

    def _lose(self, count: int) -> None:
        self.lost_count += count
        self._untold_count += count

    def _write_batches(self) -> None:
        """The thread: one write a batch until closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._closed)
                self._changed.wait_for(self._due, self._batch_s)
                lines, self._lines = self._lines, []
                untold_count, self._untold_count = self._untold_count, 0
                self._urgent = False
            told = [self._lost_line(untold_count)] if untold_count else []
            written = self._put(b"".join([*told, *lines]))
            with self._changed:
                self._waiting_bytes -= sum(map(len, lines))
                if not written:
                    self.lost_count += len(lines)
                    self._untold_count += untold_count + len(lines)
                if self._closed and not self._lines:
                    break
        if self._fd is not None:
            os.close(self._fd)

    def _put(self, batch: bytes) -> bool:
        """Write a whole batch; False when the reader is gone, or slow while we are closing."""
        if self._fd is None:
            return not batch
        if self._torn and batch:
            batch = b"\n" + batch
        at = 0
        try:
            while at < len(batch):
                at += _put_some(self._fd, batch, at)
                if time.monotonic() > self._give_up_s:
                    break
        except OSError:
            pass
        self._torn = batch[at - 1 : at] != b"\n" if at else self._torn
        return at == len(batch)


def _put_some(fd: int, batch: bytes, at: int) -> int:
    """Write whole lines from `at` on, as far as they go at once; how many bytes that was.

    At most a pipe's atomic size: where `poll` said yes, this much does not block, and short lines are not
    torn by what a child writes to the same place.
    """
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    if not poll.poll(_POLL_S * 1000):
        return 0
    end = batch.rfind(b"\n", at, at + select.PIPE_BUF) + 1
    try:
        return os.write(fd, batch[at : end or at + select.PIPE_BUF])
    except BlockingIOError:  # somebody else made the shared file non-blocking
        return 0
