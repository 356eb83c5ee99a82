"""Planning stored calls again, under another policy.  Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from hybrid_router.catalogue import workers_ai as catalogue
from hybrid_router.catalogue.workers_ai import Catalogue
from hybrid_router.config.cloud_schema import WorkersAIBackend
from hybrid_router.config.schema import Config
from hybrid_router.core.call import Call, Feature, Sampling, answers_count
from hybrid_router.core.step import Plan, Prediction, Step, Timeouts
from hybrid_router.core.upload import Upload
from hybrid_router.dispatch.decision import Circumstances, Decision
from hybrid_router.dispatch.features import Words
from hybrid_router.dispatch.verdicts import Case, judge
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.ledger import cost
from hybrid_router.routing.order import with_predictions
from hybrid_router.routing.plan import plan
from hybrid_router.routing.policy import Policy, compile_policy
from hybrid_router.routing.rates import rates
from hybrid_router.routing.rules import CompiledRule
from hybrid_router.routing.speed import Speed

NOBODY, REFUSED, NO_ALIAS = "(nobody)", "(refused)", "(no such alias)"
# What a rule may say of how a plan is run, and that changes no plan.
_AFTERWARDS: Final = frozenset({"on_break", "on_divergence", "retries", "retry_wait_s", "hedge", "redact"})
_NO_FILE: Final = -1  # its bytes are gone, only its name was kept
_NO_WAITS: Final = Timeouts(connect_s=0, load_s=0, first_token_s=0, between_tokens_s=0, total_s=0)


class Replayed(Struct, frozen=True, kw_only=True):
    """What would become of one stored call.

    Attributes:
        was, now: its first step then and under the policy: a step's name, or why there is none.
        unknown: rules that matter and of which nobody knows any more whether they would hold: `now` is a
            guess then.
        leaves: it was kept on this machine, and may be sent elsewhere now.
        before, after: what the first step is expected to take, then and now, at today's speeds.
        neurons_before, neurons_after: what it cost and would cost; None: not known.
    """

    id: str
    was: str
    now: str
    unknown: tuple[str, ...] = ()
    leaves: bool = False
    before: Prediction | None = None
    after: Prediction | None = None
    neurons_before: float | None = None
    neurons_after: float | None = None


class Rehearsal:
    """A policy, ready to plan stored calls.

    Args:
        features: step → what it can do beyond text.
        speeds: step → what was learned of it.
        known: Workers AI's models, for their prices; None: those that ship.
    """

    def __init__(
        self,
        config: Config,
        features: Mapping[str, frozenset[Feature]],
        speeds: Mapping[str, Speed],
        known: Catalogue | None = None,
    ) -> None:
        self._policy = compile_policy(config)
        self._judges = [judge(rule.when) for rule in config.rules]
        self._backends = config.backends.keys()
        self._facts = Facts(
            local=self._policy.local,
            features=features,
            speeds=speeds,
            rates=rates(config, known or catalogue.load()),
            default_max_tokens={
                name: backend.default_max_tokens
                for name, backend in config.backends.items()
                if isinstance(backend, WorkersAIBackend)
            },
        )

    def replayed(self, decision: Decision) -> Replayed:
        """Plan a stored call.

        What was known of backends then holds again; one that nothing was noted of is taken to be up.  A rule
        of which nobody knows whether it would hold is taken not to.
        """
        was = decision.steps[0].step if decision.steps else REFUSED if decision.refused else NOBODY
        if decision.alias not in self._policy.aliases:
            return Replayed(id=decision.id, was=was, now=NO_ALIAS, neurons_before=_spent(decision))
        call, facts = again(decision), self._facts_of(decision)
        policy, unknown = self._judged(Case(decision.features, call, facts, spoken=decision.text is not None))
        decided = plan(call, facts, policy)
        now = decided.steps[0].name if decided.steps else REFUSED if decided.refused else NOBODY
        return Replayed(
            id=decision.id,
            was=was,
            now=now,
            unknown=unknown,
            leaves=decision.local_only and self._may_leave(call, policy, facts.minute_of_day),
            before=_expected(was, call, facts, decided) if decision.steps else None,
            after=_expected(now, call, facts, decided) if decided.steps else None,
            neurons_before=_spent(decision),
            neurons_after=self._would_spend(decision, was, now),
        )

    def _judged(self, case: Case) -> tuple[Policy, tuple[str, ...]]:
        """The policy with every rule judged, and those that matter and that nobody can judge any more."""
        verdicts = [holds(case) for holds in self._judges]
        rules, unknown = [], []
        for rule, verdict in zip(self._policy.rules, verdicts, strict=True):
            rules.append(replace(rule, holds=_always if verdict else _never))
            if verdict and rule.refuse is not None:
                break  # nothing after it is asked
            if verdict is None and _steers(rule):
                unknown.append(rule.name)
        return replace(self._policy, rules=tuple(rules)), tuple(unknown)

    def _may_leave(self, call: Call, policy: Policy, minute_of_day: int) -> bool:
        """Whether a step elsewhere is in the widest plan that this call can get: with all backends up and
        free of charge, and without the rules that may or may not hold, since rules only take steps away.
        """
        widest = plan(call, Facts(local=policy.local, minute_of_day=minute_of_day), policy)
        return any(step.backend not in policy.local for step in widest.steps)

    def _facts_of(self, decision: Decision) -> Facts:
        then = decision.facts or Circumstances()
        return replace(
            self._facts,
            online=then.online,
            off={name: why for name, why in then.off.items() if name in self._backends},
            down=then.down,
            unreachable=then.unreachable,
            contexts=then.contexts,
            loads=then.loads,
            cached=then.cached,
            allowances=then.allowances,
            minute_of_day=decision.features.minute_of_day,
        )

    def _would_spend(self, decision: Decision, was: str, now: str) -> float | None:
        """Neurons, by what the model that answered counted."""
        if now == was:
            return _spent(decision)
        rate = self._facts.rates.get(now)
        if rate is None or rate.currency != "neurons":
            return 0.0
        usage = next((attempt.usage for attempt in reversed(decision.attempts) if attempt.usage), None)
        if usage is None:
            return None
        return cost(rate, usage.prompt_tokens, usage.completion_tokens)


def again(decision: Decision) -> Call:
    """The call as far as it can be made again: with its text if that is kept, else as large as it was."""
    kept, text = decision.features, decision.text or Words()
    prompts = tuple(prompt if isinstance(prompt, str) else (0,) * prompt for prompt in text.prompts)
    if decision.text is None:
        prompts = ((0,) * kept.prompt_tokens,)
    asked_count = answers_count(kept.operation, len(prompts) + len(text.uploads))
    return Call(
        id=decision.id,
        operation=kept.operation,
        alias=kept.alias,
        messages=text.messages,
        prompts=prompts,
        sampling=Sampling(max_tokens=kept.max_tokens, stop=text.stop),
        n=max(1, kept.choices_count // asked_count),
        stream=kept.stream,
        tools=text.tools,
        tool_choice=text.tool_choice,
        response_format=text.response_format,
        query=text.query,
        suffix=text.suffix,
        template_values=text.template_values,
        features=frozenset(kept.has),
        principal=kept.principal,
        headers=kept.headers,
        path=kept.path,
        deadline_s=kept.deadline_s,
        max_cost_usd=kept.max_cost_usd,
        extra=text.extra,
        ask=text.ask,
        uploads=tuple(Upload(fd=_NO_FILE, size_bytes=0, name=name) for name in text.uploads),
    )


def _steers(rule: CompiledRule) -> bool:
    """Whether a rule can change who serves a call."""
    restricts = rule.first or rule.only or rule.local_only or rule.refuse is not None
    return bool(restricts or rule.says.keys() - _AFTERWARDS)


def _always(subject: object) -> bool:
    return True


def _never(subject: object) -> bool:
    return False


def _expected(step_name: str, call: Call, facts: Facts, decided: Plan) -> Prediction | None:
    """What a step is expected to take for this call, whether or not it is in the plan."""
    backend, _, model = step_name.partition("/")
    step = Step(backend=backend, model=model, timeouts=_NO_WAITS, because="")
    return with_predictions([step], call, facts, decided)[0].predicted


def _spent(decision: Decision) -> float:
    """Neurons that a call was counted with."""
    return sum(attempt.neurons or 0.0 for attempt in decision.attempts)
