"""Rules: when a condition holds, order the steps, restrict them, or refuse the call."""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from hybrid_router.config.schema import Rule
from hybrid_router.core.step import LeftOut, Step
from hybrid_router.routing.conditions import Predicate, compiled
from hybrid_router.routing.treatment import said


class CompiledRule(Struct, frozen=True, kw_only=True):
    """A rule, ready to ask.  `refuse` stands alone; `says` is how the call is run (`treatment.said`)."""

    name: str
    holds: Predicate
    first: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    refuse: str | None = None
    local_only: bool = False
    says: dict[str, Any] = field(default_factory=dict)


def compile_rule(rule: Rule) -> CompiledRule:
    """Compile a rule of router.yaml."""
    return CompiledRule(
        name=rule.name,
        holds=compiled(rule.when),
        first=rule.first or (),
        only=rule.only or (),
        refuse=rule.refuse,
        local_only=rule.local_only,
        says=said(rule),
    )


def matches(target: str, step: Step, local: frozenset[str]) -> bool:
    """Whether a rule's target means this step: by kind, backend, or backend and model."""
    if target == "local":
        return step.backend in local
    if target == "cloud":
        return step.backend not in local
    return target in {step.backend, step.name}


def put_first(rule: CompiledRule, steps: Iterable[Step], local: frozenset[str]) -> tuple[Step, ...]:
    """Steps of the rule's first target lead, then those of its second, …; the others follow as they were."""

    def rank(step: Step) -> int:
        ranks = (place for place, target in enumerate(rule.first) if matches(target, step, local))
        return next(ranks, len(rule.first))

    because = f"rule {rule.name}: first {', '.join(rule.first)}"
    ranked = sorted(((rank(step), step) for step in steps), key=itemgetter(0))
    return tuple(
        replace(step, because=because) if place < len(rule.first) else step for place, step in ranked
    )


def keep_only(
    rule: CompiledRule, steps: Iterable[Step], local: frozenset[str]
) -> tuple[tuple[Step, ...], tuple[LeftOut, ...]]:
    """The steps that the rule allows, and the others with the reason."""
    kept, left_out = [], []
    because = f"rule {rule.name} allows only {', '.join(rule.only)}"
    if rule.local_only:
        because = f"rule {rule.name} keeps the call on this machine"
    targets = ("local",) if rule.local_only else rule.only
    for step in steps:
        if any(matches(target, step, local) for target in targets):
            kept.append(step)
        else:
            left_out.append(LeftOut(step=step.name, because=because))
    return tuple(kept), tuple(left_out)
