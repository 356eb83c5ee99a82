"""The decision: who may serve this call, in which order, and why.  Pure: no clock, no wait, no surprise."""

from __future__ import annotations

from collections.abc import Iterable

from hybrid_router.core.call import Call
from hybrid_router.core.step import LeftOut, Plan, Step
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.policy import Policy
from hybrid_router.routing.rules import keep_only, put_first
from hybrid_router.routing.subject import Subject


def plan(call: Call, facts: Facts, policy: Policy) -> Plan:
    """Decide who serves `call`.

    The alias's steps in the order of `try`, then the rules from first to last, then without the steps
    that cannot serve now.  Each step says why it is where it is, each one left out why it is not.
    """
    route = policy.aliases[call.alias]
    subject = Subject(call, facts, policy.text_guard)
    # A backend that is off never runs; what kind it is matters only for the reason that is given.
    local = facts.local | (policy.local & facts.off.keys())
    steps = route.steps
    left_out: tuple[LeftOut, ...] = ()
    fired: list[str] = []
    for rule in policy.rules:
        if not rule.holds(subject):
            continue
        fired.append(rule.name)
        if rule.refuse is not None:
            refused = tuple(_refused(step, rule.name) for step in steps)
            return Plan(
                left_out=left_out + refused, rules=tuple(fired), refused=rule.refuse, total_s=route.total_s
            )
        if rule.only:
            steps, others = keep_only(rule, steps, local)
            left_out += others
        if rule.first:
            steps = put_first(rule, steps, local)
    able, unable = _able(steps, call, facts, local)
    return Plan(steps=able, left_out=left_out + unable, rules=tuple(fired), total_s=route.total_s)


def _refused(step: Step, rule: str) -> LeftOut:
    return LeftOut(step=step.name, because=f"rule {rule} refuses the call")


def _able(
    steps: Iterable[Step], call: Call, facts: Facts, local: frozenset[str]
) -> tuple[tuple[Step, ...], tuple[LeftOut, ...]]:
    """The steps that can serve this call now, and the others with the reason."""
    able, unable = [], []
    for step in steps:
        because = _obstacle(step, call, facts, local)
        if because is None:
            able.append(step)
        else:
            unable.append(LeftOut(step=step.name, because=because))
    return tuple(able), tuple(unable)


def _obstacle(step: Step, call: Call, facts: Facts, local: frozenset[str]) -> str | None:
    """Why this step cannot serve this call now, or None."""
    if step.backend in facts.off:
        return f"{step.backend} is off: {facts.off[step.backend]}"
    if not facts.online and step.backend not in local:
        return f"{step.backend} cannot be reached: this machine is offline"
    if step.name in facts.down:
        return facts.down[step.name]
    lacking = call.features - facts.features.get(step.name, call.features)
    if lacking:
        return f"it cannot do {', '.join(sorted(lacking))}, which this call needs"
    return None
