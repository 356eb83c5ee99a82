"""What each step can do and be asked, by the backends' own code, without starting any of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hybrid_router.app import model_files
from hybrid_router.backends.clouds import idle_cloud
from hybrid_router.catalogue import workers_ai as catalogue
from hybrid_router.catalogue.workers_ai import Model
from hybrid_router.cli.room import counted
from hybrid_router.config.backend_schema import LocalBackend
from hybrid_router.config.schema import Config, Loaded
from hybrid_router.core.call import Feature, Operation
from hybrid_router.core.step import Step
from hybrid_router.workers.memory import Machine


def abilities(
    config: Config, steps: Iterable[Step], models: Mapping[str, Model] | None = None
) -> dict[str, frozenset[Feature]]:
    """`backend/model` → features, for each step.  `models`: Workers AI's; those that ship, if not given."""
    known = catalogue.load().by_id() if models is None else models

    def of(step: Step) -> frozenset[Feature]:
        backend = config.backends[step.backend]
        if isinstance(backend, LocalBackend):
            return model_files.features(backend.models[step.model])
        return idle_cloud(step.backend, backend, known).features(step.model)

    return {step.name: of(step) for step in steps}


def operations(
    config: Config, steps: Iterable[Step], models: Mapping[str, Model] | None = None
) -> dict[str, frozenset[Operation]]:
    """`backend/model` → what it can be asked, for each step; see `abilities`."""
    known = catalogue.load().by_id() if models is None else models

    def of(step: Step) -> frozenset[Operation]:
        backend = config.backends[step.backend]
        if isinstance(backend, LocalBackend):
            return model_files.operations(backend.models[step.model])
        return idle_cloud(step.backend, backend, known).operations(step.model)

    return {step.name: of(step) for step in steps}


def too_big(loaded: Loaded) -> dict[str, str]:
    """`backend/model` → why the memory that router.yaml gives never has room for it."""
    guests = counted(loaded, Machine()).guests
    return {guest.step: guest.why_never for guest in guests if guest.why_never is not None}
