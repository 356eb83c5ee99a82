"""What each step can do beyond text, asked of the backends' own code without starting any of them."""

from __future__ import annotations

from collections.abc import Iterable

from hybrid_router.backends.local import Local
from hybrid_router.backends.workers_ai.backend import WorkersAI
from hybrid_router.catalogue import workers_ai as catalogue
from hybrid_router.config.schema import Config, LocalBackend
from hybrid_router.core.backend import Backend
from hybrid_router.core.call import Feature
from hybrid_router.core.secret import Secret
from hybrid_router.core.step import Step


def abilities(config: Config, steps: Iterable[Step]) -> dict[str, frozenset[Feature]]:
    """`backend/model` → features, for each step."""
    known = catalogue.load().by_id()

    def backend(name: str) -> Backend:
        written = config.backends[name]
        if isinstance(written, LocalBackend):
            return Local({}, {})
        return WorkersAI(name, written, "", Secret(""), known)

    return {step.name: backend(step.backend).features(step.model) for step in steps}
