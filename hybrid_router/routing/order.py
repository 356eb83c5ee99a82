"""The order of steps that can serve, by what is predicted of each."""

from __future__ import annotations

from collections.abc import Iterable

from hybrid_router.core.call import Call
from hybrid_router.core.step import Plan, Step, Treatment
from hybrid_router.routing.facts import Facts


def with_predictions(steps: Iterable[Step], call: Call, facts: Facts, decided: Plan) -> list[Step]:
    """Each step with what it is expected to take and cost."""
    return list(steps)


def ordered(steps: list[Step], facts: Facts, treatment: Treatment) -> list[Step]:
    """`steps` as `prefer`, `spill_when` and affinity put them; each that moves says why."""
    return steps
