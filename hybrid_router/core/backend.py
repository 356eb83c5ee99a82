"""The seam between running a plan and somebody's protocol."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol, runtime_checkable

from msgspec import Struct

from hybrid_router.core.call import Call, Feature, Operation
from hybrid_router.core.event import Batch
from hybrid_router.core.step import Step


class Load(Struct, frozen=True, kw_only=True):
    """How busy a model is.

    Attributes:
        running_count: calls that are being answered; of a cloud, those of this router.
        waiting_count: calls that wait for a place.
        parallel: calls that are answered together; None: as many as come.
        loading: the model is not in memory yet.
        ahead_tokens: estimated, of prompts that are still to be computed there before another's.
    """

    running_count: int = 0
    waiting_count: int = 0
    parallel: int | None = None
    loading: bool = False
    ahead_tokens: int = 0


IDLE = Load()
GENERATES = frozenset({Operation.CHAT, Operation.COMPLETE})  # what a model that writes text is asked
# What is asked of a model whose first event comes no later for a longer text: a recording is heard, a picture
# drawn, a first sentence spoken.
EVEN = frozenset({Operation.TRANSCRIBE, Operation.SPEAK, Operation.IMAGE, Operation.CLASSIFY})


class Backend(Protocol):
    """Something that can run a call.

    `local` says whether it runs on this machine.  `extra_fields` names the fields of `Call.extra` that
    it forwards; the client is told about the others.
    """

    local: bool
    extra_fields: frozenset[str]

    def operations(self, model: str) -> frozenset[Operation]:
        """What `model` can be asked."""
        ...

    def features(self, model: str) -> frozenset[Feature]:
        """What `model` can do beyond text, as far as is known now."""
        ...

    def down(self, model: str) -> str | None:
        """Why `model` cannot serve at this moment, in one sentence; None if it can.  Never waits."""
        ...

    def not_installed(self, model: str) -> bool:
        """Whether `model` is down because this installation lacks what it needs: no waiting mends that."""
        ...

    def continues(self, model: str, call: Call) -> bool:
        """Whether `run` can go on from `Call.written`; where it cannot, the call is started anew."""
        ...

    def context(self, model: str) -> int | None:
        """Tokens of prompt and answer together that `model` takes; None: not known."""
        ...

    def load(self, model: str) -> Load:
        """What is running and waiting at `model` right now."""
        ...

    def run(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        """Yield the answer's events in batches, none of them empty.

        Closing the generator cancels the work.  A whole answer holds one `Finish` for each choice.
        The adapter keeps `connect_s` and `load_s`; the other waits are the caller's.

        Raises:
            CallRefused: the call is at fault; no other step should try.
            BackendError: before the first event; the next step may try.
            PrefillRefused: `call.written` is set and the model does not go on from it after all.
            StreamBroken: after the first event.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and children.  Bounded; called once, after the last run."""
        ...


@runtime_checkable
class Loader(Protocol):
    """A backend whose models have to be brought into memory first."""

    def want(self, model: str) -> None:
        """Load `model` when its turn comes, though no call waits for it.  Never waits."""
        ...
