"""The decision: who may serve this call, in which order, and why.  Pure: no clock, no wait, no surprise."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from hybrid_router.core.call import Call, Operation
from hybrid_router.core.step import LeftOut, Plan, Step, Treatment
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.obstacles import obstacle
from hybrid_router.routing.order import ordered, translators_first, with_predictions
from hybrid_router.routing.policy import Policy
from hybrid_router.routing.rules import CompiledRule, keep_only, put_first
from hybrid_router.routing.subject import Subject
from hybrid_router.routing.treatment import merged


def plan(call: Call, facts: Facts, policy: Policy) -> Plan:
    """Decide who serves `call`.

    The alias's steps in the order of `try`, then the rules from first to last, then without the steps
    that cannot serve now, then by what is predicted of them.  Each step says why it is where it is, each
    one left out why it is not.
    """
    route = policy.aliases[call.alias]
    call = route.completed(call)
    # A backend that is off never runs; what kind it is matters only for the reason that is given.
    local = facts.local | (policy.local & facts.off.keys())
    ruled = _Ruled(list(route.steps), route.treatment)
    subject = Subject(call, facts, policy.text_guard)
    for rule in policy.rules:
        if rule.holds(subject):
            ruled.apply(rule, local)
            if rule.refuse is not None:
                break
    total_s = route.total_s if call.deadline_s is None else min(route.total_s, call.deadline_s)
    decided = Plan(
        left_out=tuple(ruled.left_out),
        rules=tuple(ruled.fired),
        refused=ruled.refused,
        total_s=total_s,
        local_only=ruled.local_only,
        treatment=_capped(ruled.treatment, call),
        prompt_tokens=subject.prompt_tokens,
    )
    return decided if decided.refused is not None else _served(decided, ruled.steps, subject, local)


class _Ruled:
    """What the rules have made of an alias's steps so far."""

    __slots__ = ("fired", "left_out", "local_only", "refused", "steps", "treatment")

    def __init__(self, steps: list[Step], treatment: Treatment) -> None:
        self.steps = steps
        self.treatment = treatment
        self.left_out: list[LeftOut] = []
        self.fired: list[str] = []
        self.refused: str | None = None
        self.local_only = False

    def apply(self, rule: CompiledRule, local: frozenset[str]) -> None:
        self.fired.append(rule.name)
        if rule.refuse is not None:
            self.refused = rule.refuse
            because = f"rule {rule.name} refuses the call"
            self.left_out += [LeftOut(step=step.name, because=because) for step in self.steps]
            return
        self.local_only |= rule.local_only
        if rule.only or rule.local_only:
            kept, others = keep_only(rule, self.steps, local)
            self.steps = list(kept)
            self.left_out += others
        if rule.first:
            self.steps = list(put_first(rule, self.steps, local))
        self.treatment = merged(self.treatment, rule.says)


def _capped(treatment: Treatment, call: Call) -> Treatment:
    """The treatment under the cost cap that the client asks for, which may only be the smaller one."""
    return treatment if call.max_cost_usd is None else merged(treatment, {"max_cost_usd": call.max_cost_usd})


def _served(decided: Plan, steps: Iterable[Step], subject: Subject, local: frozenset[str]) -> Plan:
    """The plan with the steps that can serve now, in the order that its treatment asks for."""
    call, facts = subject.call, subject.facts
    able: list[Step] = []
    left_out = list(decided.left_out)
    for step in with_predictions(steps, call, facts, decided):
        because = obstacle(step, call, facts, decided, local)
        if because is None:
            able.append(step)
        else:
            left_out.append(LeftOut(step=step.name, because=because))
    steps = ordered(able, facts, decided.treatment)
    if call.operation is Operation.TRANSLATE:
        steps = translators_first(steps, facts)
    if decided.local_only:
        steps = [replace(step, private=True) for step in steps]
    return _filled(decided, tuple(steps), tuple(left_out))


def _filled(decided: Plan, steps: tuple[Step, ...], left_out: tuple[LeftOut, ...]) -> Plan:
    """As `msgspec.structs.replace`, at a third of its cost: this is done for every call."""
    return Plan(
        steps=steps,
        left_out=left_out,
        rules=decided.rules,
        total_s=decided.total_s,
        local_only=decided.local_only,
        treatment=decided.treatment,
        prompt_tokens=decided.prompt_tokens,
    )
