"""What came for the engine and was not taken yet.  One thread puts, another takes."""

from __future__ import annotations

import threading
from collections import OrderedDict

from hybrid_router.workers.protocol import Begin, Cancel


class Inbox:
    """In its order.  A task that is cancelled before it was taken leaves at once, with its files.

    So calls that come and go while a long step runs cost this process nothing.
    """

    def __init__(self) -> None:
        self._frames: OrderedDict[int, Begin | Cancel] = OrderedDict()  # by task: never both of one
        self._changed = threading.Condition()
        self._closed = False

    @property
    def empty(self) -> bool:
        return not self._frames

    def put(self, frame: Begin | Cancel) -> None:
        """Add a frame, or drop the task that it cancels."""
        with self._changed:
            if isinstance(frame, Begin):
                self._frames[frame.task.id] = frame
            elif isinstance(begin := self._frames.get(frame.task_id), Begin):
                del self._frames[frame.task_id]
                close_files(begin)
            else:
                self._frames[frame.task_id] = frame
            self._changed.notify()

    def take(self, *, wait: bool) -> Begin | Cancel | None:
        """The next frame; None if there is none, after a `wait` only once nothing will come any more."""
        with self._changed:
            while wait and not self._frames and not self._closed:
                self._changed.wait()
            return self._frames.popitem(last=False)[1] if self._frames else None

    def close(self) -> None:
        """Nothing more will come: whoever waits is woken."""
        with self._changed:
            self._closed = True
            self._changed.notify()


def close_files(begin: Begin) -> None:
    """Let go of a task's files."""
    for upload in begin.task.uploads:
        upload.close()
