"""A backend that does what a list says: for tests, and for drills of a policy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from hybrid_router.core.backend import IDLE, Load
from hybrid_router.core.call import Call, Feature, Operation
from hybrid_router.core.errors import RouterError
from hybrid_router.core.event import Batch, Event, Finish, Text, Usage
from hybrid_router.core.step import Step


@dataclass(frozen=True)
class Hang:
    """Silence until somebody closes the generator."""


Act: TypeAlias = Batch | RouterError | Hang
EVERYTHING = frozenset(Feature)
ANYTHING = frozenset(Operation)


def answer(*texts: str, usage: Usage | None = None) -> list[Act]:
    """A whole answer of one choice, a batch for each text."""
    shown: list[Act] = [[Text(text)] for text in texts]
    end: list[Event] = [Finish("stop"), usage or Usage(prompt_tokens=3, completion_tokens=len(texts))]
    return [*shown, end]


@dataclass
class Scripted:
    """Plays one script a run, the last one again and again.

    Attributes:
        runs: what it was asked, in order.
        prefills: its scripts go on from `Call.written`.
        released: set when a run's generator has been closed, whatever the reason.
    """

    scripts: Sequence[Sequence[Act]]
    local: bool = False
    extra_fields: frozenset[str] = frozenset()
    why_down: str | None = None
    can: frozenset[Feature] = EVERYTHING
    does: frozenset[Operation] = ANYTHING
    prefills: bool = False
    window: int | None = None
    busy: Load = IDLE
    runs: list[tuple[Call, Step]] = field(default_factory=list)
    hanging: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def operations(self, model: str) -> frozenset[Operation]:
        return self.does

    def features(self, model: str) -> frozenset[Feature]:
        return self.can

    def down(self, model: str) -> str | None:
        return self.why_down

    def not_installed(self, model: str) -> bool:
        return False

    def continues(self, model: str, call: Call) -> bool:
        return self.prefills

    def context(self, model: str) -> int | None:
        return self.window

    def load(self, model: str) -> Load:
        return self.busy

    async def run(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        self.runs.append((call, step))
        script = self.scripts[min(len(self.runs), len(self.scripts)) - 1]
        try:
            for act in script:
                if isinstance(act, RouterError):
                    raise act
                if isinstance(act, Hang):
                    self.hanging.set()
                    await asyncio.get_running_loop().create_future()
                else:
                    yield act
        finally:
            self.released.set()

    async def close(self) -> None:
        """Nothing is held."""
