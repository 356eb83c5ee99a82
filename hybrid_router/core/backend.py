"""The seam between running a plan and somebody's protocol."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from hybrid_router.core.call import Call, Feature
from hybrid_router.core.event import Batch
from hybrid_router.core.step import Step


class Backend(Protocol):
    """Something that can run a call.

    `local` says whether it runs on this machine.  `extra_fields` names the fields of `Call.extra` that
    it forwards; the client is told about the others.
    """

    local: bool
    extra_fields: frozenset[str]

    def features(self, model: str) -> frozenset[Feature]:
        """What `model` can do beyond text."""
        ...

    def down(self, model: str) -> str | None:
        """Why `model` cannot serve at this moment, in one sentence; None if it can.  Never waits."""
        ...

    def run(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        """Yield the answer's events in batches, none of them empty.

        Closing the generator cancels the work.  A whole answer holds one `Finish` for each choice.
        The adapter keeps `connect_s` and `load_s`; the other waits are the caller's.

        Raises:
            CallRefused: the call is at fault; no other step should try.
            BackendError: before the first event; the next step may try.
            StreamBroken: after it.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and children.  Bounded; called once, after the last run."""
        ...
