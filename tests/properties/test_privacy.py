"""What is private stays home: for any policy, any facts, any call and any faults."""

from __future__ import annotations

import asyncio
import itertools
import selectors
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from open_gate import OpenGate

from hybrid_router.backends.scripted import Act, Hang, Scripted, answer
from hybrid_router.config.schema import Above, Condition, Rule
from hybrid_router.core.backend import Load
from hybrid_router.core.call import Call, Feature, Message, Operation
from hybrid_router.core.errors import (
    BackendBusy,
    BackendError,
    BackendUnreachable,
    CallRefused,
    ContextOverflow,
    PrefillRefused,
    QuotaExhausted,
    RouterError,
    StreamBroken,
)
from hybrid_router.core.event import Batch, Finish, Text, Usage
from hybrid_router.core.step import Plan, Prediction, Step, Timeouts, Treatment
from hybrid_router.dispatch import engine, redaction
from hybrid_router.dispatch.knowledge import Knowledge
from hybrid_router.dispatch.record import Attempt, Record
from hybrid_router.dispatch.turnstile import Turnstile
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.plan import plan
from hybrid_router.routing.policy import Policy, Route
from hybrid_router.routing.rules import CompiledRule, compile_rule
from hybrid_router.routing.speed import Speed
from hybrid_router.routing.subject import Subject

HOME = frozenset({"home", "attic"})
SKY = frozenset({"sky", "moon"})
PREFILL = frozenset({"home", "sky"})  # who goes on from the middle of an answer
WAITS = Timeouts(connect_s=1, load_s=1, first_token_s=1, between_tokens_s=1, total_s=4)
MOST_BREAKS = 3
NAMES = sorted(f"{backend}/m" for backend in HOME | SKY)
JANE, PHONE = "jane.roe@example.com", "+49 30 12345678"


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer when nobody has anything to do."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


class _Jumping(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready: list[Any] = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits, and for nothing"
            self.now_s += timeout
        return ready


def in_no_time(work: Any) -> float:
    """Run a coroutine on a jumping clock; gives the seconds that it took by that clock."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(work)
        return runner.get_loop().time()


STEPS = st.lists(st.sampled_from(sorted(HOME | SKY)), min_size=1, max_size=4, unique=True).map(
    lambda names: tuple(Step(backend=name, model="m", timeouts=WAITS, because="alias") for name in names)
)
TARGETS = st.none() | st.lists(
    st.sampled_from(["local", "cloud", "sky", "home", "moon/m"]), min_size=1, max_size=2
).map(tuple)
TEXTS = st.sampled_from(
    ["hello", f"mail {JANE}", "open server.pem", "my key AKIA" + "Z" * 16, "secret plan", "x" * 500]
)
LEAVES = st.sampled_from(
    [
        Condition(),
        Condition(alias=("a",)),
        Condition(key=("ann",)),
        Condition(header={"x-private": "yes"}),
        Condition(text=("secret",)),
        Condition(finds=("secrets",)),
        Condition(finds=("emails", "cards")),
        Condition(files=("*.pem",)),
        Condition(path=("/v1/completions",)),
        Condition(prompt_tokens=Above(above=100)),
        Condition(has=("tools",)),
        Condition(time="22:00-06:00"),
        Condition(operation=("chat",)),
    ]
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        Condition,
        any=st.none() | st.lists(inner, min_size=1, max_size=2).map(tuple),
        all=st.none() | st.lists(inner, min_size=1, max_size=2).map(tuple),
        not_=st.none() | inner,
    ),
    max_leaves=4,
)
RULES = st.builds(
    Rule,
    name=st.sampled_from(["a", "b", "c"]),
    when=CONDITIONS,
    first=TARGETS,
    only=TARGETS,
    local_only=st.booleans(),
    refuse=st.sampled_from([None, None, None, "Not now."]),
    prefer=st.sampled_from([None, "listed", "fastest"]),
    hedge=st.sampled_from([None, True]),
    on_break=st.sampled_from([None, "continue", "error"]),
    retries=st.none() | st.integers(0, 2),
    redact=st.sampled_from([None, ("pii",)]),
    reserve=st.sampled_from([None, True]),
).map(lambda rule: Rule(name=rule.name, when=rule.when, refuse=rule.refuse) if rule.refuse else rule)
FACTS = st.builds(
    Facts,
    off=st.dictionaries(st.sampled_from(sorted(HOME | SKY)), st.just("off"), max_size=2),
    local=st.just(HOME),
    down=st.dictionaries(st.sampled_from(NAMES), st.just("down"), max_size=2),
    unreachable=st.dictionaries(st.sampled_from(sorted(SKY)), st.just("no route"), max_size=1),
    features=st.dictionaries(st.sampled_from(NAMES), st.frozensets(st.sampled_from(Feature)), max_size=2),
    contexts=st.dictionaries(st.sampled_from(NAMES), st.integers(50, 5_000), max_size=2),
    loads=st.dictionaries(
        st.sampled_from(NAMES), st.builds(Load, waiting_count=st.integers(0, 9)), max_size=2
    ),
    speeds=st.dictionaries(st.sampled_from(NAMES), st.just(Speed()), max_size=2),
    cached=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 500), max_size=2),
    minute_of_day=st.integers(0, 1439),
)
CALLS = st.builds(
    lambda text, operation, headers, features, key, stream: Call(
        id="x",
        operation=operation,
        alias="a",
        messages=(Message(role="user", content=text),) if operation is Operation.CHAT else (),
        prompts=() if operation is Operation.CHAT else (text,),
        headers=headers,
        features=features,
        principal=key,
        path="/v1/chat/completions" if operation is Operation.CHAT else "/v1/completions",
        stream=stream,
    ),
    TEXTS,
    st.sampled_from(Operation),
    st.sampled_from([{}, {"x-private": "yes"}, {"x-private": "no"}]),
    st.frozensets(st.sampled_from([Feature.TOOLS, Feature.IMAGES])),
    st.sampled_from(["ann", "bob"]),
    st.booleans(),
)


def policy_of(steps: tuple[Step, ...], rules: list[Rule]) -> Policy:
    """One alias and rules, compiled."""
    compiled = tuple(compile_rule(rule) for rule in rules)
    return Policy(aliases={"a": Route(steps=steps, total_s=4.0)}, rules=compiled, local=HOME)


def kept_home(call: Call, facts: Facts, rules: tuple[CompiledRule, ...]) -> bool:
    """Whether a rule that is reached says so."""
    subject = Subject(call, facts)
    reached = itertools.takewhile(lambda rule: not (rule.refuse and rule.holds(subject)), rules)
    return any(rule.local_only and rule.holds(subject) for rule in reached)


@given(CALLS, FACTS, STEPS, st.lists(RULES, max_size=5))
def test_no_rule_brings_back_what_one_keeps_home(
    call: Call, facts: Facts, steps: tuple[Step, ...], rules: list[Rule]
) -> None:
    """Whatever stands before and after it, whatever is down or fast: such a plan has local steps only."""
    policy = policy_of(steps, rules)
    decided = plan(call, facts, policy)

    home = kept_home(call, facts, policy.rules)

    assert decided.refused is not None or decided.local_only == home
    assert not home or {step.backend for step in decided.steps} <= HOME
    assert {step.name for step in decided.steps} <= {step.name for step in steps}
    assert len(decided.steps) == len({step.name for step in decided.steps})


KEEPING = st.builds(Rule, name=st.just("keep"), local_only=st.just(True), first=TARGETS, only=TARGETS)


@given(CALLS, FACTS, STEPS, st.tuples(st.lists(RULES, max_size=4), KEEPING, st.lists(RULES, max_size=4)))
def test_one_rule_that_holds_is_enough(
    call: Call, facts: Facts, steps: tuple[Step, ...], rules: tuple[list[Rule], Rule, list[Rule]]
) -> None:
    """Among any others, at any place, whatever else it says itself."""
    before, keep, after = rules
    decided = plan(call, facts, policy_of(steps, [*before, keep, *after]))

    assert {step.backend for step in decided.steps} <= HOME
    assert decided.local_only or decided.refused is not None


def faults() -> list[list[Act]]:
    """What backends do, with errors of its own each time: who raises one may change what it says."""
    return [
        [BackendBusy("x")],
        [BackendBusy("x", retry_after_s=0.5)],
        [BackendError("x")],
        [BackendUnreachable("x")],
        [QuotaExhausted("x")],
        [ContextOverflow("x")],
        [CallRefused("x")],
        [PrefillRefused("x")],
        [Hang()],
        [],
        [[Text("One. ")], StreamBroken("x")],
        [[Text("One. ")], Hang()],
        [[Text("One. ")]],
        [[Text("One. Two. ")], StreamBroken("x")],
        [[Text("Other. ")], StreamBroken("x")],
        answer("One. ", "Two. ", "Three."),
        answer("Two. "),
    ]


FAULTS = st.integers(0, len(faults()) - 1).map(lambda number: faults()[number])
SCRIPTS = st.fixed_dictionaries(
    {name: st.lists(FAULTS, min_size=1, max_size=4) for name in sorted(HOME | SKY)}
)
TREATMENTS = st.builds(
    Treatment,
    on_break=st.sampled_from(["continue", "error"]),
    on_divergence=st.sampled_from(["splice", "error"]),
    retries=st.integers(0, 2),
    hedge=st.booleans(),
)
SLOW = Prediction(first_token_s=0.1, first_token_p90_s=0.2, total_s=1.0)


async def run(call: Call, decided: Plan, backends: Mapping[str, Scripted]) -> list[Attempt]:
    """Run a plan, with retries allowed and every step's prediction known; whatever comes of it."""
    steps = tuple(replace(step, predicted=SLOW) for step in decided.steps)
    record = Record(id="d", plan=replace(decided, steps=steps))
    rows: list[Attempt] = []
    try:
        gate = OpenGate(backends, rows.append, retries=True)
        async with aclosing(engine.run(call, record, gate)) as batches:
            async for _ in batches:
                pass
    except RouterError:
        pass
    return rows


@given(CALLS, STEPS, st.lists(RULES, max_size=3), SCRIPTS, TREATMENTS)
def test_no_fault_drives_a_private_call_out(
    call: Call,
    steps: tuple[Step, ...],
    rules: list[Rule],
    scripts: dict[str, list[list[Act]]],
    treatment: Treatment,
) -> None:
    """Errors, breaks, hangs, retries, hedges, continuations: no cloud is asked, and it ends in time.

    The gate guards nothing here: the plan alone does.
    """
    keep = Rule(name="keep", local_only=True)
    decided = plan(call, Facts(local=HOME), policy_of(steps, [*rules, keep]))
    backends = {
        name: Scripted(script, local=name in HOME, prefills=name in PREFILL)
        for name, script in scripts.items()
    }
    rows: list[Attempt] = []

    async def work() -> None:
        rows.extend(await run(call, replace(decided, treatment=treatment), backends))

    took_s = in_no_time(work())

    assert [backends[name].runs for name in SKY] == [[], []]
    assert took_s <= decided.total_s + 1.0
    assert len(rows) <= 2 * (treatment.retries + 1) * (len(decided.steps) + MOST_BREAKS)
    assert "running" not in {row.outcome for row in rows}


@given(CALLS, STEPS, SCRIPTS, TREATMENTS)
def test_the_gate_keeps_home_what_a_plan_should_not_hold(
    call: Call, steps: tuple[Step, ...], scripts: dict[str, list[list[Act]]], treatment: Treatment
) -> None:
    """Should a plan ever name a cloud for a private call, the attempt ends before the cloud hears of it."""
    backends = {name: Scripted(script, local=name in HOME) for name, script in scripts.items()}
    wrong = Plan(steps=steps, total_s=4.0, local_only=True, treatment=treatment)
    record = Record(id="d", plan=wrong)

    async def work() -> None:
        gate = Turnstile(backends, Knowledge(), record, lambda call, record, attempt: None)
        try:
            async with aclosing(engine.run(call, record, gate)) as batches:
                async for _ in batches:
                    pass
        except RouterError:
            pass

    took_s = in_no_time(work())

    assert [backends[name].runs for name in SKY] == [[], []]
    assert took_s <= wrong.total_s + 1.0


class Echo:
    """A backend that says what it is told, a few characters at a time, and breaks off where it is to.

    Attributes:
        seen: the calls that it was given.
    """

    extra_fields: frozenset[str] = frozenset()

    def __init__(self, breaks: list[int], piece_count: int, *, local: bool, prefills: bool) -> None:
        self.local = local
        self.seen: list[Call] = []
        self._breaks = list(breaks)
        self._piece_count = piece_count
        self._prefills = prefills

    def not_installed(self, model: str) -> bool:
        return False

    def continues(self, model: str, call: Call) -> bool:
        return self._prefills

    async def run(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        self.seen.append(call)
        text = call.messages[-1].text
        if not text.startswith(call.written):
            raise PrefillRefused("that is no beginning of mine")
        rest = text.removeprefix(call.written)
        ends = self._breaks.pop(0) if self._breaks else len(rest)
        for at in range(0, min(ends, len(rest)), self._piece_count):
            yield [Text(rest[at : min(at + self._piece_count, ends)])]
        if ends < len(rest):
            raise StreamBroken("cut")
        yield [Finish("stop"), Usage(prompt_tokens=1, completion_tokens=1)]


class RedactingGate(OpenGate):
    """Clouds get the call as the policy lets it leave."""

    def __init__(self, backends: Mapping[str, Any], kinds: tuple[str, ...]) -> None:
        super().__init__(backends, lambda row: None)
        self._kinds = kinds

    def run(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        backend = self._backends[step.backend]
        if backend.local:
            return backend.run(call, step)
        return redaction.run(backend, call, step, self._kinds)


SAID = st.lists(
    st.sampled_from([JANE, PHONE, "Ask ", " or ", "EMAIL_1 ", "<b> ", "é. ", "\n"]), min_size=1, max_size=8
).map(" ".join)


@given(SAID, STEPS, st.data())
def test_a_continued_answer_reads_as_if_nothing_had_been_redacted(
    said: str, steps: tuple[Step, ...], data: st.DataObject
) -> None:
    """Over breaks at home and in clouds: the client's text is whole, and no cloud has seen a value."""
    steps = steps[:MOST_BREAKS]
    echoes = {
        step.backend: Echo(
            data.draw(st.lists(st.integers(1, 30), max_size=1)),
            data.draw(st.integers(1, 7)),
            local=step.backend in HOME,
            prefills=data.draw(st.booleans()),
        )
        for step in steps
    }
    call = Call(
        id="x",
        operation=Operation.CHAT,
        alias="a",
        messages=(Message(role="user", content=said),),
        stream=True,
    )
    record = Record(id="d", plan=Plan(steps=steps, total_s=4.0))
    told: list[str] = []

    async def work() -> None:
        gate = RedactingGate(echoes, ("pii",))
        async with aclosing(engine.run(call, record, gate)) as batches:
            async for batch in batches:
                told.extend(event.text for event in batch if isinstance(event, Text))

    in_no_time(work())

    assert "".join(told) == said
    for name in SKY & echoes.keys():
        for seen in echoes[name].seen:
            assert JANE not in repr(seen)
            assert PHONE not in repr(seen)
