"""What stands in for the user's backends: a model that is none, and several behind one name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping

from hybrid_router.backends.local import Local
from hybrid_router.core.backend import GENERATES, IDLE, Backend, Load
from hybrid_router.core.call import Call, Feature, Operation
from hybrid_router.core.errors import (
    BackendBusy,
    BackendError,
    BackendTimeout,
    BackendUnavailable,
    StreamBroken,
)
from hybrid_router.core.event import Batch, Finish, Text, Usage
from hybrid_router.core.step import Step
from hybrid_router.drill import faults
from hybrid_router.drill.voice import WORDS_COUNT, words

_SLOW_SHARE = 0.8


class Speaker:
    """A model that says its words, or fails as it is told; without a fault, what answers in the emulator.

    It continues what was begun, as the local backend does.
    """

    extra_fields: frozenset[str] = Local.extra_fields

    def __init__(
        self,
        letter: str,
        fault: faults.Local | None = None,
        context: int | None = None,
        *,
        local: bool = True,
    ) -> None:
        self.local = local
        self._letter = letter
        self._fault = fault
        self._context = context

    def operations(self, model: str) -> frozenset[Operation]:
        """What drills ask."""
        return GENERATES

    def features(self, model: str) -> frozenset[Feature]:
        """As the local backend's."""
        return Local({}).features(model)

    def down(self, model: str) -> str | None:
        return "its process is dead" if self._fault == "dead" else None

    def not_installed(self, model: str) -> bool:
        return False

    def continues(self, model: str, call: Call) -> bool:
        return True

    def context(self, model: str) -> int | None:
        return self._context

    def load(self, model: str) -> Load:
        return IDLE

    async def run(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        await self._begin(step)
        said_count = 0
        for word in words(self._letter, call):
            if said_count == faults.MIDDLE:
                await self._middle(step)
            await asyncio.sleep(0)
            yield [Text(word)]
            said_count += 1
        yield [Finish("stop"), Usage(prompt_tokens=8, completion_tokens=said_count or WORDS_COUNT)]

    async def _begin(self, step: Step) -> None:
        """Fail before the first word, or be late."""
        waits = step.timeouts
        match self._fault:
            case "dead" | "killed":
                raise BackendUnavailable(f"{step.name}: its process died")
            case "loading":
                await asyncio.sleep(waits.load_s)
                raise BackendTimeout(f"{step.name} is still loading after {waits.load_s:g} s")
            case "busy":
                raise BackendBusy(f"{step.name} has no room: its queue is full", retry_after_s=1.0)
            case "error":
                raise BackendError(f"{step.name}: its engine failed")
            case "silent":
                await _forever()
            case "slow":
                await asyncio.sleep(_SLOW_SHARE * waits.first_token_s)

    async def _middle(self, step: Step) -> None:
        if self._fault == "stall":
            await _forever()
        if self._fault == "reset":
            raise StreamBroken(f"{step.name}: its process died")

    async def close(self) -> None:
        """Nothing is held."""


async def _forever() -> None:
    await asyncio.get_running_loop().create_future()


class ByModel:
    """One backend of the user's, with a backend of its own behind each model.

    `runs` is told the name of each step that is run.
    """

    def __init__(self, models: Mapping[str, Backend], runs: list[str]) -> None:
        self._models = models
        self._runs = runs
        some = next(iter(models.values()))
        self.local = some.local
        self.extra_fields = some.extra_fields

    def operations(self, model: str) -> frozenset[Operation]:
        return self._models[model].operations(model)

    def features(self, model: str) -> frozenset[Feature]:
        return self._models[model].features(model)

    def down(self, model: str) -> str | None:
        return self._models[model].down(model)

    def not_installed(self, model: str) -> bool:
        return False

    def continues(self, model: str, call: Call) -> bool:
        return self._models[model].continues(model, call)

    def context(self, model: str) -> int | None:
        return self._models[model].context(model)

    def load(self, model: str) -> Load:
        return self._models[model].load(model)

    def run(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        self._runs.append(step.name)
        return self._models[step.model].run(call, step)

    async def close(self) -> None:
        await asyncio.gather(*(model.close() for model in self._models.values()))
