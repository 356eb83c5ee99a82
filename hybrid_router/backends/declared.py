"""What all clouds have in common whose models are declared in router.yaml."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import ClassVar

from hybrid_router.backends.discretion import prompt_of, without_prompt
from hybrid_router.config.cloud_schema import CloudModel, DeclaredCloud
from hybrid_router.core.backend import Load
from hybrid_router.core.call import Call, Feature, Operation
from hybrid_router.core.errors import RouterError, StreamBroken
from hybrid_router.core.event import Batch, says_something
from hybrid_router.core.step import Step

_UNKNOWN = CloudModel()


class Declared(ABC):
    """See `core.backend.Backend`; what is left is to have one call answered.

    Attributes:
        local: what it is given stays on this machine.
        speaks: the operations that the adapter has a form for; a model does no other, whatever is declared.
    """

    local = False
    extra_fields: frozenset[str] = frozenset()
    speaks: ClassVar[frozenset[Operation]]

    def __init__(self, name: str, config: DeclaredCloud) -> None:
        self._name = name
        self._models: Mapping[str, CloudModel] = config.models
        self._running: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name}>"

    def operations(self, model: str) -> frozenset[Operation]:
        """What is declared and has a form."""
        return self.speaks & {Operation(one) for one in self._model(model).does}

    def features(self, model: str) -> frozenset[Feature]:
        """What is declared."""
        return frozenset(Feature(one) for one in self._model(model).can)

    def down(self, model: str) -> str | None:
        """Nothing is known before a call is tried."""
        return None

    def not_installed(self, model: str) -> bool:
        return False

    def continues(self, model: str, call: Call) -> bool:
        """Only where the adapter says so."""
        return False

    def context(self, model: str) -> int | None:
        """What is declared."""
        return self._model(model).context

    def load(self, model: str) -> Load:
        """This router's own calls; how busy the cloud is, nobody knows."""
        return Load(running_count=self._running[model])

    async def run(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        """Yield the answer's events; see `core.backend.Backend.run`."""
        begun = False
        self._running[step.model] += 1
        try:
            async with aclosing(self._answer(call, step)) as batches:
                async for batch in batches:
                    begun = begun or says_something(batch)
                    yield batch
        except RouterError as error:
            failure = after_first(error) if begun else error
            failure.detail = without_prompt(failure.detail, prompt_of(call))
        else:
            return
        finally:
            self._running[step.model] -= 1
        raise failure

    @abstractmethod
    def _answer(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        """The events of one call, none of the batches empty.

        Raises:
            RouterError: `CallRefused` or `BackendError`, whether before the first event or after it.
        """

    @abstractmethod
    async def close(self) -> None:
        """Close every connection."""

    def _model(self, name: str) -> CloudModel:
        return self._models.get(name, _UNKNOWN)


def after_first(error: RouterError) -> StreamBroken:
    """The same failure once part of the answer is out."""
    return StreamBroken(error.message, detail=error.detail, retry_after_s=error.retry_after_s)
