"""A gate that lets every attempt through: the engine alone, without breakers and budgets."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping

from hybrid_router.core.backend import Backend
from hybrid_router.core.call import Call
from hybrid_router.core.errors import RouterError
from hybrid_router.core.event import Batch
from hybrid_router.core.step import Step
from hybrid_router.dispatch.record import Attempt, Record


class OpenGate:
    """See `dispatch.gate.Gate`."""

    def __init__(
        self,
        backends: Mapping[str, Backend],
        on_attempt: Callable[[Attempt], None],
        *,
        retries: bool = False,
        record: Record | None = None,
    ) -> None:
        self._backends = backends
        self._on_attempt = on_attempt
        self._retries = retries
        self._record = record

    def begin(self) -> None:
        """Nothing is counted."""

    def end(self) -> None:
        """Nothing is counted."""

    def continues(self, call: Call, step: Step) -> bool:
        return self._backends[step.backend].continues(step.model, call)

    def take_retry(self) -> bool:
        return self._retries

    async def enter(self, call: Call, step: Step, row: Attempt) -> None:
        """Nothing is reserved."""
        if self._record is not None:
            known = self._backends[step.backend].extra_fields
            self._record.ignored = tuple(sorted(call.extra.keys() - known))

    def run(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        return self._backends[step.backend].run(call, step)

    def leave(self, call: Call, step: Step, row: Attempt, error: RouterError | None) -> None:
        self._on_attempt(row)
