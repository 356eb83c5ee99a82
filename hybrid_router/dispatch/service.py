"""One object that answers calls: reads the facts, asks the policy, runs the plan."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping

from hybrid_router.core import ids
from hybrid_router.core.backend import Backend
from hybrid_router.core.call import Call
from hybrid_router.core.errors import (
    ModelNotFound,
    NoBackend,
    PolicyRefused,
    RouterError,
    UnsupportedParameter,
)
from hybrid_router.core.event import Batch
from hybrid_router.core.step import Plan, Step
from hybrid_router.dispatch import engine
from hybrid_router.dispatch.record import Attempt, Record
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.plan import plan
from hybrid_router.routing.policy import Policy

OnAttempt = Callable[[Call, Record, Attempt], None]


class Service:
    """Answers calls by a policy from a set of backends."""

    def __init__(
        self,
        policy: Policy,
        backends: Mapping[str, Backend],
        off: Mapping[str, str],
        on_attempt: OnAttempt = lambda call, record, attempt: None,
    ) -> None:
        self._policy = policy
        self._backends = backends
        self._off = off
        self._on_attempt = on_attempt
        self._local = frozenset(name for name, backend in backends.items() if backend.local)
        self._features = {
            alias: {
                step.name: backends[step.backend].features(step.model) for step in self._candidates(alias)
            }
            for alias in policy.aliases
        }

    @property
    def aliases(self) -> tuple[str, ...]:
        """Names a client may use, in the order of router.yaml."""
        return tuple(self._policy.aliases)

    def _candidates(self, alias: str) -> list[Step]:
        """The steps of `alias` whose backends are on."""
        return [step for step in self._policy.aliases[alias].steps if step.backend in self._backends]

    def facts(self, alias: str) -> Facts:
        """What is known now about the steps of `alias`."""
        down = {}
        for step in self._candidates(alias):
            if (reason := self._backends[step.backend].down(step.model)) is not None:
                down[step.name] = reason
        now = time.localtime()
        return Facts(
            off=self._off,
            local=self._local,
            down=down,
            features=self._features[alias],
            minute_of_day=now.tm_hour * 60 + now.tm_min,
        )

    def decide(self, call: Call) -> Record:
        """Plan `call`.

        Raises:
            ModelNotFound: no such alias.
            PolicyRefused: a rule says no.
            UnsupportedParameter: no step can do what the call needs, now or later.
            NoBackend: every step was left out; the message says why.
        """
        if call.alias not in self._policy.aliases:
            raise ModelNotFound(
                f"there is no model {call.alias!r} here; GET /v1/models lists what there is", param="model"
            )
        facts = self.facts(call.alias)
        decided = plan(call, facts, self._policy)
        if decided.refused is not None:
            raise PolicyRefused(decided.refused)
        if not decided.steps:
            raise self._incapable(call, facts) or _nobody(decided)
        return Record(id=ids.sibling(call.id, "dec_"), plan=decided)

    def _incapable(self, call: Call, facts: Facts) -> UnsupportedParameter | None:
        """The error of a call that no step could serve however long its client waits; else None."""
        unable = [
            sorted(call.features - facts.features[step.name])
            for step in self._policy.aliases[call.alias].steps
            if step.backend not in facts.off
        ]
        if not unable or not all(unable):
            return None
        lacking = ", ".join(sorted({feature for features in unable for feature in features}))
        off = {step.backend for step in self._policy.aliases[call.alias].steps} & facts.off.keys()
        why = f" ({'; '.join(f'{name} is off: {facts.off[name]}' for name in sorted(off))})" if off else ""
        return UnsupportedParameter(
            f"no backend that is on and behind {call.alias!r} can do {lacking}, which this call needs{why}: "
            f"send it without {lacking}, or {'turn one on' if off else 'give the alias a step'} that can"
        )

    def run(self, call: Call, record: Record) -> AsyncGenerator[Batch]:
        """Run a decided call; see `engine.run` for what it yields and raises."""
        return engine.run(call, record, _Gate(self._backends, record, self._on_attempt))

    def down(self, backend: str, model: str) -> str | None:
        """Why a step cannot serve at this moment; None if it can."""
        return self._off.get(backend) or self._backends[backend].down(model)

    def unservable(self) -> dict[str, str]:
        """Alias → why no step of it could serve a plain text call now.  Empty: all is well."""
        reasons = {}
        for alias, steps in self._policy.aliases.items():
            facts = self.facts(alias)
            why = [
                f"{step.name}: {reason}"
                for step in steps.steps
                if (reason := facts.off.get(step.backend) or facts.down.get(step.name))
            ]
            if len(why) == len(steps.steps):
                reasons[alias] = "; ".join(why)
        return reasons


class _Gate:
    """One call's way to the backends.  See `dispatch.gate.Gate`."""

    __slots__ = ("_backends", "_on_attempt", "_record")

    def __init__(self, backends: Mapping[str, Backend], record: Record, on_attempt: OnAttempt) -> None:
        self._backends = backends
        self._record = record
        self._on_attempt = on_attempt

    def continues(self, call: Call, step: Step) -> bool:
        return self._backends[step.backend].continues(step.model, call)

    def may_retry(self) -> bool:
        return True

    async def enter(self, call: Call, step: Step, row: Attempt) -> None:
        if self._record.plan.local_only and not self._backends[step.backend].local:
            raise NoBackend(f"{step.name} is not on this machine, where a rule keeps this call")
        if call.extra:
            known = self._backends[step.backend].extra_fields
            self._record.ignored = tuple(sorted(call.extra.keys() - known))

    def run(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        return self._backends[step.backend].run(call, step)

    def leave(self, call: Call, step: Step, row: Attempt, error: RouterError | None) -> None:
        self._on_attempt(call, self._record, row)


def _nobody(decided: Plan) -> NoBackend:
    """Say why the plan is empty."""
    why = "; ".join(f"{left.step}: {left.because}" for left in decided.left_out)
    return NoBackend(f"no backend may serve this call ({why})")
