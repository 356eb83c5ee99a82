"""Why a step cannot serve a call now.  Each reason is a sentence for whoever reads the plan."""

from __future__ import annotations

from hybrid_router.core.ability import DOES
from hybrid_router.core.call import Call
from hybrid_router.core.step import Plan, Step
from hybrid_router.routing.facts import Facts


def obstacle(step: Step, call: Call, facts: Facts, decided: Plan, local: frozenset[str]) -> str | None:
    """Why this step cannot serve this call now, or None.

    Args:
        decided: the plan so far: what the rules say, and the prompt's size.
        local: backends on this machine.
    """
    return (
        _absent(step, facts, local)
        or _incapable(step, call, facts)
        or _late(step, decided)
        or _dear(step, facts, decided)
    )


def _absent(step: Step, facts: Facts, local: frozenset[str]) -> str | None:
    """Nobody is there to take the call."""
    if step.backend in facts.off:
        return f"{step.backend} is off: {facts.off[step.backend]}"
    if step.backend not in local:
        if not facts.online:
            return f"{step.backend} cannot be reached: this machine is offline"
        if step.backend in facts.unreachable:
            return f"{step.backend} cannot be reached: {facts.unreachable[step.backend]}"
    return facts.down.get(step.name)


def _incapable(step: Step, call: Call, facts: Facts) -> str | None:
    """The model cannot do what the call needs."""
    if call.operation not in facts.operations.get(step.name, (call.operation,)):
        return f"it cannot {DOES[call.operation]}"
    if not call.features:
        return None
    lacking = call.features - facts.features.get(step.name, call.features)
    return f"it cannot do {', '.join(sorted(lacking))}, which this call needs" if lacking else None


def _late(step: Step, decided: Plan) -> str | None:
    """The first token is expected after the call's deadline."""
    predicted = step.predicted
    if predicted is None or predicted.first_token_s is None or predicted.first_token_s <= decided.total_s:
        return None
    return (
        f"its first token is expected after {predicted.first_token_s:.3g} s, "
        f"the call may take {decided.total_s:.3g} s"
    )


def _dear(step: Step, facts: Facts, decided: Plan) -> str | None:
    """It may cost more than is left, or than the call may cost."""
    predicted = step.predicted
    if predicted is None or not (predicted.neurons or predicted.usd):
        return None
    cap_usd = decided.treatment.max_cost_usd
    if cap_usd is not None and predicted.usd > cap_usd:
        return f"it may cost {predicted.usd:.4f} USD, the call may cost {cap_usd:.4f} USD"
    allowance = facts.allowances.get(step.backend)
    if allowance is None:
        return None
    left = allowance.reserve_neurons if decided.treatment.reserve else allowance.neurons
    if predicted.neurons <= left or predicted.usd <= allowance.overflow_usd:
        return None
    said = f"it may cost {predicted.neurons:.0f} neurons, {max(0.0, left):.0f} are left"
    return f"{said}: {allowance.because}" if allowance.because else said
