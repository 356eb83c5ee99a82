"""What the tasks of Workers AI have in common."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Protocol

from msgspec import Struct, field

from hybrid_router.backends.errand import Errand, Reader
from hybrid_router.catalogue.families import Family
from hybrid_router.catalogue.workers_ai import Model
from hybrid_router.config.cloud_schema import WorkersAIBackend
from hybrid_router.core.call import Call, Feature
from hybrid_router.core.event import Batch


class Send(Protocol):
    """Sends one request to `/ai/…` and reads its reply.  See `backends.errand.Line.run` for its errors."""

    def __call__(self, errand: Errand, reader: Reader) -> AsyncGenerator[Batch]: ...


class Asked(Struct, frozen=True, kw_only=True):
    """What a task is done with.

    Attributes:
        model: as asked for.
        family: its wire form.
        known: what the catalogue says of it, if anything.
        models: all of the catalogue, for tasks that take several models.
        config: the backend's part of router.yaml.
    """

    call: Call
    model: str
    family: Family
    known: Model | None
    config: WorkersAIBackend
    models: Mapping[str, Model] = field(default_factory=dict)


class Task(Protocol):
    """One kind of task, for all families that do it."""

    def features(self, family: Family, model: str) -> frozenset[Feature]:
        """What models of a family can do beyond the plain task."""
        ...

    def run(self, asked: Asked, send: Send) -> AsyncGenerator[Batch]:
        """Yield the answer's events: a `Finish` for each choice, and last the usage where it is known.

        Requests are made by pure functions and replies read by them; this only sends one after the other.

        Raises:
            Inexpressible: the model cannot be asked that; the message names the field.
            RouterError: as `Send` does.
        """
        ...
