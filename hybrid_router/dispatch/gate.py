"""Who is asked before an attempt, and told after it: breakers, quotas, what is learned and written down."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from hybrid_router.core.call import Call
from hybrid_router.core.errors import RouterError
from hybrid_router.core.event import Batch
from hybrid_router.core.step import Step
from hybrid_router.dispatch.record import Attempt


class Gate(Protocol):
    """The way from a plan to its backends.  `dispatch.service.Service` is the real one."""

    def begin(self) -> None:
        """The call runs."""
        ...

    def end(self) -> None:
        """The call is over.  Called exactly once after `begin`."""
        ...

    def continues(self, call: Call, step: Step) -> bool:
        """Whether the step can go on from the middle of an answer to `call`."""
        ...

    def take_retry(self) -> bool:
        """Take a place in the budget of all calls for a retry that is to come; False: there is none.

        The retry's attempt gives it back when it ends, or the call's end if it never begins.
        """
        ...

    async def enter(self, call: Call, step: Step, row: Attempt) -> None:
        """Before an attempt: reserve what it may cost.  Nothing is held if it raises.

        Raises:
            BackendError: the step may not run now after all.
        """
        ...

    def run(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        """Run it; see `core.backend.Backend.run`."""
        ...

    def leave(self, call: Call, step: Step, row: Attempt, error: RouterError | None) -> None:
        """After an attempt, entered or not.  Called exactly once for each; `row.ended_s` is set."""
        ...
