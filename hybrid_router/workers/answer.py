"""The parent's side of one task: events arrive from the pipe, a generator hands them on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from hybrid_router.core.event import Batch
from hybrid_router.engines.task import Output, Refused


class WorkerGone(Exception):
    """The child ended while it worked on this task; the text says how."""


class TaskFailed(Exception):
    """The engine refused the task or gave it up."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.message)
        self.refused = refused


class PendingAnswer:
    """Events of one task that nobody has read yet.  One reader."""

    __slots__ = ("_ended", "_error", "_pending", "_wake")

    def __init__(self) -> None:
        self._pending: Batch = []
        self._ended = False
        self._error: Exception | None = None
        self._wake: asyncio.Future[None] | None = None

    def take(self, answer: Output | Refused) -> bool:
        """Store what the child sent.  Returns whether it was the last."""
        if isinstance(answer, Refused):
            self.fail(TaskFailed(answer))
            return True
        self._pending += answer.events
        self._ended = answer.last
        self._stir()
        return answer.last

    def fail(self, error: Exception) -> None:
        """End with an error, after what is pending has been read."""
        self._error = error
        self._stir()

    def _stir(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def batches(self) -> AsyncGenerator[Batch]:
        """Everything that came since the last look, as one batch each time.

        Raises:
            WorkerGone: the child ended.
            TaskFailed: the engine did not answer.
        """
        while True:
            if self._pending:
                batch, self._pending = self._pending, []
                yield batch
            elif self._ended:
                return
            elif self._error is not None:
                raise self._error
            else:
                self._wake = asyncio.get_running_loop().create_future()
                await self._wake
