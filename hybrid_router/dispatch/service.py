"""One object that answers calls: reads the facts, asks the policy, runs the plan."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from types import MappingProxyType

from msgspec.structs import replace

from hybrid_router.core import ids
from hybrid_router.core.ability import ABILITIES, DOES
from hybrid_router.core.backend import Backend, Loader
from hybrid_router.core.call import Call, Feature, Operation
from hybrid_router.core.errors import (
    ModelNotFound,
    NoBackend,
    NotInstalled,
    PolicyRefused,
    RouterError,
    UnsupportedParameter,
)
from hybrid_router.core.event import Batch
from hybrid_router.core.step import LeftOut, Plan, Step
from hybrid_router.dispatch import engine, interpreting
from hybrid_router.dispatch.archive import Archive
from hybrid_router.dispatch.knowledge import Knowledge
from hybrid_router.dispatch.record import Record
from hybrid_router.dispatch.turnstile import OnAttempt, Turnstile
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.ledger import Allowance
from hybrid_router.routing.order import loads_first
from hybrid_router.routing.plan import plan
from hybrid_router.routing.policy import Policy

_ALLOWANCES_S = 0.05


class Service:
    """Answers calls by a policy from a set of backends.

    Attributes:
        knowledge: what was learned; it may be shared with the service before and the one after this.
    """

    def __init__(
        self,
        policy: Policy,
        backends: Mapping[str, Backend],
        off: Mapping[str, str],
        on_attempt: OnAttempt = lambda call, record, attempt: None,
        *,
        knowledge: Knowledge | None = None,
        archive: Archive | None = None,
        default_max_tokens: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self.knowledge = knowledge or Knowledge()
        self._archive = archive
        self._allowed: Mapping[str, Allowance] = {}
        self._allowances_until_s = 0.0
        self._policy = policy
        self._backends = backends
        self._off = off
        self._on_attempt = on_attempt
        self._default_max_tokens = default_max_tokens
        self._local = frozenset(name for name, backend in backends.items() if backend.local)

    @property
    def aliases(self) -> tuple[str, ...]:
        """Names a client may use, in the order of router.yaml."""
        return tuple(self._policy.aliases)

    def _candidates(self, alias: str) -> list[Step]:
        """The steps of `alias` whose backends are on."""
        return [step for step in self._policy.aliases[alias].steps if step.backend in self._backends]

    def facts(self, alias: str, call: Call | None = None) -> Facts:
        """What is known now about the steps of `alias`, and of the conversation that `call` goes on with."""
        known, now, now_s = self.knowledge, time.localtime(), time.monotonic()
        down, waits, contexts, loads, features, operations = {}, {}, {}, {}, {}, {}
        for step in self._candidates(alias):
            backend, name = self._backends[step.backend], step.name
            operations[name], features[name] = backend.operations(step.model), backend.features(step.model)
            if (why := backend.down(step.model)) is not None:
                down[name] = why
            elif (why := known.health.why_down(step.backend, step.model, now_s)) is not None:
                down[name] = why
                if (wait_s := known.health.wait_s(step.backend, step.model, now_s)) is not None:
                    waits[name] = wait_s
            if (context := backend.context(step.model)) is not None:
                contexts[name] = context
            load = backend.load(step.model)
            if load.running_count or load.loading:
                loads[name] = replace(load, ahead_tokens=known.speeds.ahead_tokens(name))
        return Facts(
            off=self._off,
            local=self._local,
            down=down,
            waits=waits,
            unreachable=dict(known.network.why_unreachable),
            features=features,
            operations=interpreting.widened(operations),
            contexts=contexts,
            loads=loads,
            speeds=known.speeds.by_step,
            cached=known.affinity.cached(call) if call is not None else {},
            allowances=self._allowances(now_s),
            rates=known.meter.rates,
            default_max_tokens=self._default_max_tokens,
            minute_of_day=now.tm_hour * 60 + now.tm_min,
        )

    def _allowances(self, now_s: float) -> Mapping[str, Allowance]:
        """What accounts may use, a moment ago at most: the meter has the last word on every call."""
        if now_s >= self._allowances_until_s:
            self._allowed = self.knowledge.meter.allowances()
            self._allowances_until_s = now_s + _ALLOWANCES_S
        return self._allowed

    def decide(self, call: Call) -> Record:
        """Plan `call`.  `Record.refusal` is set where nothing may run.

        Raises:
            ModelNotFound: no such alias.
        """
        call = self._completed(call)
        facts, decided = self._planned(call)
        return Record(
            id=ids.sibling(call.id, "dec_"),
            plan=decided,
            facts=facts,
            refusal=None if decided.steps else self._refusal(call, facts, decided),
        )

    def _refusal(self, call: Call, facts: Facts, decided: Plan) -> RouterError:
        """What the client of an empty plan is told."""
        if decided.refused is not None:
            return PolicyRefused(decided.refused)
        return (
            self._incapable(call, facts)
            or self._not_installed(call, facts)
            or self._nobody(call, facts, decided)
        )

    def _nobody(self, call: Call, facts: Facts, decided: Plan) -> NoBackend:
        """Says why the plan is empty, and when to ask again if every step that may answer then says when."""
        why = "; ".join(f"{left.step}: {left.because}" for left in decided.left_out)
        return NoBackend(
            f"no backend may serve this call ({why})", retry_after_s=self.wait_s(call, facts, decided)
        )

    def wait_s(self, call: Call, facts: Facts, decided: Plan) -> float | None:
        """Seconds until the first of an empty plan's steps may be asked.

        None: one may be back at any moment, or none is away that could answer.
        """
        away = [
            None if step.backend in facts.unreachable else facts.waits.get(step.name)
            for step in self._candidates(call.alias)
            if (step.backend in facts.unreachable or _is_down(step, facts, decided))
            and not self._backends[step.backend].not_installed(step.model)
            and not _lacking(call, step, facts)
        ]
        known = [wait_s for wait_s in away if wait_s is not None]
        return min(known) if known and len(known) == len(away) else None

    def _not_installed(self, call: Call, facts: Facts) -> NotInstalled | None:
        """The error of a call whose every able step lacks an extra; else None."""
        able = [step for step in self._candidates(call.alias) if not _lacking(call, step, facts)]
        if not able or not all(self._backends[step.backend].not_installed(step.model) for step in able):
            return None
        return NotInstalled("; ".join(f"{step.name}: {facts.down[step.name]}" for step in able))

    def explain(self, call: Call) -> Plan:
        """The plan that `call` would get now.  Nothing is run, reserved or asked.

        Raises:
            ModelNotFound: no such alias.
        """
        return self._planned(self._completed(call))[1]

    def _planned(self, call: Call) -> tuple[Facts, Plan]:
        facts = self.facts(call.alias, call)
        return facts, plan(call, facts, self._policy)

    def _completed(self, call: Call) -> Call:
        """The call with what its alias says of it."""
        if call.alias not in self._policy.aliases:
            raise ModelNotFound(
                f"there is no model {call.alias!r} here; GET /v1/models lists what there is", param="model"
            )
        return self._policy.aliases[call.alias].completed(call)

    def _incapable(self, call: Call, facts: Facts) -> UnsupportedParameter | None:
        """The error of a call that no step could serve however long its client waits; else None."""
        unable = [
            _lacking(call, step, facts)
            for step in self._policy.aliases[call.alias].steps
            if step.backend not in facts.off
        ]
        if not unable or not all(unable):
            return None
        off = {step.backend for step in self._policy.aliases[call.alias].steps} & facts.off.keys()
        why = f" ({'; '.join(f'{name} is off: {facts.off[name]}' for name in sorted(off))})" if off else ""
        nobody = f"no model behind {call.alias!r}{' that is on' if off else ''} can"
        other = f"{'turn one on' if off else 'give the alias a step'} that can"
        features = sorted({lacking for each in unable for lacking in each if isinstance(lacking, Feature)})
        if not features:
            return UnsupportedParameter(
                f"{nobody} {DOES[call.operation]}{why}: ask another model, or {other}", param="model"
            )
        does = " and ".join(ABILITIES[one].does for one in features)
        without = [ABILITIES[one].without for one in features]
        spared = [one for one in dict.fromkeys(without) if one is not None]
        instead = f"send it without {' and '.join(spared)}" if None not in without else "ask another model"
        return UnsupportedParameter(f"{nobody} {does}{why}: {instead}, or {other}")

    async def decision(self, decision_id: str, principal: str) -> bytes | None:
        """A principal's decision record as JSON, without the call's text; None: there is none.

        Raises:
            RouterError: the store could not be read.
        """
        return None if self._archive is None else await self._archive.find(decision_id, principal)

    def run(self, call: Call, record: Record) -> AsyncGenerator[Batch]:
        """Run a decided call; see `engine.run` for what it yields and raises."""
        call = self._completed(call)
        self._want(record)
        return engine.run(call, record, Turnstile(self._backends, self.knowledge, record, self._on_attempt))

    def _want(self, record: Record) -> None:
        """Have models loaded that the call passes over because they are not there yet."""
        if record.plan.treatment.while_loading == "wait" or record.facts is None:
            return
        for step in record.plan.steps[1:]:
            backend = self._backends[step.backend]
            if isinstance(backend, Loader) and loads_first(step, record.facts):
                backend.want(step.model)

    def down(self, backend: str, model: str) -> str | None:
        """Why a step cannot serve at this moment; None if it can."""
        return (
            self._off.get(backend)
            or self._backends[backend].down(model)
            or self.knowledge.network.why_unreachable.get(backend)
            or self.knowledge.health.why_down(backend, model, time.monotonic())
        )

    def unservable(self) -> dict[str, str]:
        """Alias → why no step of it could serve a plain text call now.  Empty: all is well."""
        reasons = {}
        for alias, steps in self._policy.aliases.items():
            facts = self.facts(alias)
            why = [f"{step.name}: {reason}" for step in steps.steps if (reason := _why_not(step, facts))]
            if len(why) == len(steps.steps):
                reasons[alias] = "; ".join(why)
        return reasons


def _lacking(call: Call, step: Step, facts: Facts) -> Sequence[Operation | Feature]:
    """What the call needs and the step cannot do."""
    if call.operation not in facts.operations[step.name]:
        return [call.operation]
    return sorted(call.features - facts.features[step.name])


def _is_down(step: Step, facts: Facts, decided: Plan) -> bool:
    """Whether that is what keeps it out of the plan, and no rule."""
    why = facts.down.get(step.name)
    return why is not None and LeftOut(step=step.name, because=why) in decided.left_out


def _why_not(step: Step, facts: Facts) -> str | None:
    return facts.off.get(step.backend) or facts.unreachable.get(step.backend) or facts.down.get(step.name)
